"""The sending end of a collect, on the node."""
