"""What lies and runs on a node, told to whoever only looks."""
