"""How a verb talks to one node: a channel, a worker or an sh behind it, never a connection."""
