"""The input of what is started: taken whole before it begins, and kept where it costs least.

Runs on a node inside the worker, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import os

from asyncdeploy.node_side.files import write_all

IN_MEMORY = 1 << 20  # bytes that need no disk, which may be full
COPY = 1 << 20


class NoRoom(Exception):
    """No folder of the node takes the input; its text says which were tried, and why."""


def take_input(worker):
    """Return a descriptor of all input, at its start: it must never stand between us and the client's next word."""
    kept = None
    problem = None
    while True:
        kind, payload = worker.receive()
        if kind == b"E":
            break
        if kind == b"I" and problem is None:
            try:
                kept = kept or Kept()
                kept.add(payload)
            except NoRoom as error:
                problem = error  # told when the client has said all, and listens
    if problem is not None:
        raise problem
    if kept is None:
        return os.open(os.devnull, os.O_RDONLY)
    os.lseek(kept.fd, 0, os.SEEK_SET)
    return kept.fd


class Kept:
    """What came so far: in memory while it is small, then in a file without a name in the first folder with room."""

    def __init__(self):
        self.fd = unlinked_memory()
        self.size = 0
        self.folder = "memory"
        self.left = None  # folders that were not tried yet; None until a folder is needed
        self.tried = []

    def add(self, data):
        if self.left is None and self.size + len(data) > IN_MEMORY:
            self.move()
        while True:
            try:
                write_all(self.fd, data)
                break
            except OSError as error:
                self.note(error)
                self.move()
        self.size += len(data)

    def move(self):
        """Copy what came so far into the next folder that takes it; what was half written of more stays behind."""
        if self.left is None:
            self.left = folders()
        while True:
            if not self.left:
                raise NoRoom("no room for its input: " + ", ".join(self.tried))
            self.folder = self.left.pop(0)
            try:
                fd = unlinked_file(self.folder)
            except OSError as error:
                self.note(error)
                continue
            try:
                at = 0
                while at < self.size:
                    block = os.pread(self.fd, min(COPY, self.size - at), at)
                    write_all(fd, block)
                    at += len(block)
            except OSError as error:
                os.close(fd)
                self.note(error)
                continue
            os.close(self.fd)
            self.fd = fd
            return

    def note(self, error):
        self.tried.append("%s (%s)" % (self.folder, os.strerror(error.errno)))


def folders():
    named = (os.environ.get("TMPDIR"), "/tmp", "/var/tmp", os.environ.get("HOME"), ".")
    return list(dict.fromkeys(folder for folder in named if folder))


def unlinked_memory():
    """Return a file that lies on no disk; where the kernel has none of that kind, one on a disk."""
    try:
        return os.memfd_create("input")
    except (AttributeError, OSError):
        pass  # a kernel from before 3.17
    tried = []
    for folder in folders():
        try:
            return unlinked_file(folder)
        except OSError as error:
            tried.append("%s (%s)" % (folder, os.strerror(error.errno)))
    raise NoRoom("no room for its input: " + ", ".join(tried))


def unlinked_file(folder):
    path = os.path.join(folder, ".asyncdeploy-input-%d-%s" % (os.getpid(), os.urandom(8).hex()))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return fd
