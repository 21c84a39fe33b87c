"""Who the nodes are: how people write them, what is known of each, what many of them answered."""
