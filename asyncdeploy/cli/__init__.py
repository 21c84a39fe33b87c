"""The command line, from words to a verb; it imports no verb before its name is read."""
