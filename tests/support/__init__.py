"""What the tests stand on: beds of nodes, tools and leak checks."""
