"""Whoever watches a run is killed, or cannot see it any more."""
