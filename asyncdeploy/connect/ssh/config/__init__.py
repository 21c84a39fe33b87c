"""What the user's ssh_config says, asked of ssh itself: a word is honoured, refused by name, or known to be idle."""
