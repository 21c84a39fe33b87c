"""What ranks need beside them on the node, and what is read of them there."""
