"""Files on their way home: under names of ours, locked while somebody writes them, swept away when nobody does."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import time

import attrs

from asyncdeploy.collect.names import PART
from asyncdeploy.tasks.threads import is_stopped

LINK_TAKES_S = 60
"""A link is made and renamed at once; one of our names that is older was left by a process that died."""
BLOCK = 1 << 16
"""Of zeros, at such a place, a hole is made: of less a disk would save little."""
CREATE_TRIES = 10
"""A sweep takes a new file away only in the instant before it is locked."""


_ZEROS = memoryview(bytes(BLOCK))


@attrs.define
class Partial:
    """A file on its way: written under a name of ours, locked as long as somebody writes it."""

    path: bytes
    fd: int
    folder: int
    name: str
    sha: hashlib._Hash = attrs.field(factory=hashlib.sha256)
    size: int = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes; where there are only zeros a hole is left, as most files have them that were sparse."""
        self.sha.update(data)
        rest = memoryview(data)
        while rest:
            piece, rest = rest[: BLOCK - self.size % BLOCK], rest[BLOCK - self.size % BLOCK :]
            at, self.size = self.size, self.size + len(piece)
            if piece == _ZEROS[: len(piece)]:
                continue
            while piece:
                written = os.pwrite(self.fd, piece, at)
                at, piece = at + written, piece[written:]

    def skip(self, size: int) -> None:
        """Leave a hole."""
        self.size += size
        while size and not is_stopped():
            self.sha.update(_ZEROS[:size])
            size -= min(size, BLOCK)

    def end(self) -> None:
        """Take no more; it may end with a hole, which only its size tells."""
        if os.fstat(self.fd).st_size != self.size:
            os.truncate(self.fd, self.size)

    def put(self) -> None:
        """Give it its own name; what stood there is replaced in one step."""
        name = self.path.rpartition(b"/")[2]
        os.rename(self.name, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)

    def close(self) -> None:
        """Let it go, and its lock."""
        os.close(self.fd)
        os.close(self.folder)


def begin_part(path: bytes, folder: int) -> Partial:
    """Begin a file in an open folder, of which the part keeps a descriptor of its own."""
    folder = os.dup(folder)
    try:
        name, fd = _create(folder)
    except BaseException:
        os.close(folder)
        raise
    return Partial(path, fd, folder, name)


def new_name() -> str:
    """Return a name of ours that nobody has."""
    return PART + secrets.token_hex(8)


def _create(folder: int) -> tuple[str, int]:
    """Create a file under a name of ours and lock it, so that another collect into this folder leaves it alone."""
    for _ in range(CREATE_TRIES):
        name = new_name()
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a sweep saw it before it was locked, and removes it
            os.close(fd)
            continue
        except OSError:  # a disk without locks
            return name, fd
        if os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)
    raise OSError("another collect keeps removing our files")


def sweep(folder: int) -> None:
    """Remove what a collect that was killed left in a folder; what one that lives writes is locked."""
    for name in os.listdir(folder):
        if not name.startswith(PART):
            continue
        with contextlib.suppress(OSError):
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):  # which takes no lock: its age must tell
                if abs(time.time() - info.st_mtime) > LINK_TAKES_S:
                    os.unlink(name, dir_fd=folder)
                continue
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(fd)


def unlink(name: str, folder: int) -> None:
    """Remove a name, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
