"""Processes that die, or whose disk fails, at a system call that was chosen by its number."""
