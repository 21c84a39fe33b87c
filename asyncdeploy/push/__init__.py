"""From here to a node: only what is missing travels, and it stands whole or not at all."""
