"""The same for many nodes: short compositions of what the other folders do for one. A pool is lent, or opened."""
