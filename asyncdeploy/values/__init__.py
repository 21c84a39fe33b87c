"""What travels, as frozen data and plain text: it imports nothing of ours, does no I/O and knows no node."""
