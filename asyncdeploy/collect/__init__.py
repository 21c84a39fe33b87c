"""From a node to here: the node is not trusted, and nothing half-done stands under a final name."""
