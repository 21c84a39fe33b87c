"""known_hosts as data: who stands in it and under which names, and what is said of a key that does not."""
