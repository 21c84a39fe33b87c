"""A command on a node: attached, it dies with us; detached, a folder on the node is the truth."""
