"""Locks among our own processes on one machine, on file systems that have none as well.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import errno
import fcntl
import os
import time

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without locks says
LOOK_S = 0.02
WAIT_S = 60.0  # others hold it for moments; a stranger may have taken a socket's name


class Lock:
    """A file's lock: flock, or where that is not to be had a socket of its name, which one process has at a time.

    Either frees itself when all who hold it are gone.
    """

    def __init__(self, path):
        self.path, self.socket = path, None
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, poll=lambda: None):
        """Wait for it; ``poll`` is called meanwhile and may raise, as when whoever wants it is gone."""
        end, locks = time.monotonic() + WAIT_S, True
        while True:
            try:
                if locks:
                    fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                if self.bind():
                    return
            except BlockingIOError:
                end = time.monotonic() + WAIT_S  # whoever holds it lives
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                locks = False
                continue
            if time.monotonic() > end:
                raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK), self.path)
            poll()
            time.sleep(LOOK_S)

    def is_free(self):
        """Take it if it is free; whether it was."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in NO_LOCKS and self.bind()
        return True

    def bind(self):
        import hashlib
        import socket

        name = "%d:%s" % (os.getuid(), os.path.realpath(self.path))
        taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # An abstract name: it is nowhere on the disk, and gone with its last holder.
            taken.bind(b"\0asyncdeploy-" + hashlib.sha256(os.fsencode(name)).hexdigest().encode())
        except OSError:
            taken.close()
            return False
        self.socket = taken
        return True

    def close(self):
        if self.socket is not None:
            self.socket.close()
        os.close(self.fd)
