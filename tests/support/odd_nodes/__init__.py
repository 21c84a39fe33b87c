"""Nodes that are unlike those of a fresh Debian: small parts that combine, each usable in three lines."""
