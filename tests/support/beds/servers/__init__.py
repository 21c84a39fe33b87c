"""Servers that are no sshd, or a strange one."""
