"""The tests, cheapest ring first: pure, a scripted remote, SSH in this process, real sshd."""
