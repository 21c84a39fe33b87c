"""A workspace made ready, once for all nodes: which files, what they hold, which pieces travel."""
