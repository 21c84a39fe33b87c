"""What verbs do that have more to do than one call of the library; loaded when a verb begins."""
