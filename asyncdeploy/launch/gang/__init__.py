"""Ranks set off together, are watched together and end together."""
