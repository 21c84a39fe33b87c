"""Values that write the one command a node that starts its ranks."""
