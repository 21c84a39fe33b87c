"""The verbs of the command line, each a function of its flags: thin, by the library's public names alone."""
