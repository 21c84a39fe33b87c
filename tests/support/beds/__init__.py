"""Servers that a test starts and ends: real sshd, networks of nodes, docker, nix, a package index."""
