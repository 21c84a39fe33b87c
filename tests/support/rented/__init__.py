"""A provider that rents out real sshd servers of this machine, in four dialects, with everything that goes wrong."""
