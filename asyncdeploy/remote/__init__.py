"""How a verb talks to one node: a channel, a worker or plain sh behind it, never a connection."""
