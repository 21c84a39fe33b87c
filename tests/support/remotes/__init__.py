"""Nodes without SSH between: local shells that behave as a node, or fail as one does."""
