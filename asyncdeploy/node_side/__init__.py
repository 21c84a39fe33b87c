"""Programs that run on a node: Python >= 3.8, the standard library and each other, sent over the channel."""
