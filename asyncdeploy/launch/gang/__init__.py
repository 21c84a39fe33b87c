"""Ranks are set off together, watched together, and end together."""
