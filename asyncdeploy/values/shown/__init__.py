"""How values and errors look to a person: text and arithmetic on what it is given; nothing of ours is known here."""
