"""From node to node: each byte leaves this machine once, however many nodes want it."""
