"""The receiving end of a push, on the node."""
