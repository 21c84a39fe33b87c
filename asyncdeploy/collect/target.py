"""Write what a node sent below a local folder: nothing outside it, nothing half-done under a final name.

The node is not trusted, so neither tarfile nor paths are: every folder on the way is opened without following links,
every file is written under a name of ours beside its place and renamed there when its content is proven.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeGuard

from asyncdeploy.collect.names import misleads
from asyncdeploy.collect.parts import Partial, begin_part, new_name, sweep, unlink

LAST_MTIME_S = 1 << 33
"""The year 2242; a wilder time is a node's joke."""
OPEN_FOLDERS = 128
"""Descriptors are few (256 on a Mac), and folders come one after the other."""
BLOCK = 1 << 20

_OF_ALL = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBADF),
)
"""The disk is full, broken or gone, or this process has no more of something."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Target:
    """A local folder that takes what comes; a context.

    Attributes:
        path: the folder.
        folds_case: True if "a" and "A" are one file there.
        lacks: what this disk does not keep, "modes" or "times", and its word for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folds_case = False
        self.lacks: dict[str, str] = {}
        self._root = -1
        self._allowed = 0o700
        self._folders: dict[bytes, int] = {}
        self._swept: set[bytes] = set()
        self._above: tuple[Path, ...] = ()
        self._made: list[bytes] = []

    def __enter__(self) -> Self:
        self._above = missing_folders(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            sweep(self._root)
            self._try_out()
        except BaseException:
            if self._root >= 0:
                os.close(self._root)
            remove_empty(self._above)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._folders.values():
            os.close(fd)
        os.close(self._root)

    def take_back(self) -> Generator[None, None, None]:
        """Remove the folders that were made and in which nothing stands, the root too, one a step."""
        for path in reversed(self._made):
            yield
            with contextlib.suppress(OSError):
                above, name = self._place(path)
                os.rmdir(name, dir_fd=above)
        remove_empty(self._above)

    def _try_out(self) -> None:
        """Learn from a file what the umask leaves of its mode and whether the disk tells "a" from "A"."""
        name = new_name()
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777, dir_fd=self._root)
        try:
            self._allowed = stat.S_IMODE(os.fstat(fd).st_mode) & 0o777
            with contextlib.suppress(FileNotFoundError):
                os.stat(name.upper(), dir_fd=self._root, follow_symlinks=False)
                self.folds_case = True
        finally:
            os.close(fd)
            unlink(name, self._root)

    def folder(self, path: bytes, mode: int = 0o777) -> int:
        """Return a descriptor of a folder below the root, made where it is missing; never through a link."""
        if not path:
            return self._root
        if (known := self._folders.get(path)) is not None:
            return known
        above, name = self._place(path)
        try:
            os.mkdir(name, mode & 0o777 | 0o700, dir_fd=above)
            self._swept.add(path)
            self._made.append(path)
        except FileExistsError:
            pass  # whether it is a folder, and no link, the next line finds out
        fd = os.open(name, _FOLDER, dir_fd=above)
        if path not in self._swept:
            self._swept.add(path)
            sweep(fd)
        if len(self._folders) >= OPEN_FOLDERS:
            for old in self._folders.values():
                os.close(old)
            self._folders.clear()
        self._folders[path] = fd
        return fd

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """Return the folder in which a path ends, and its last name; the last guard against a name that misleads."""
        parent, _, name = path.rpartition(b"/")
        if misleads(path):
            raise ValueError(f"a name below {self.path} was expected, got {path!r}")
        return self.folder(parent), name

    def look(self, path: bytes) -> os.stat_result | None:
        """Return what stands at a path, not following links, or None."""
        folder, name = self._place(path)
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_existing(self, path: bytes) -> int:
        """Open a regular file that stands there, for reading."""
        folder, name = self._place(path)
        return os.open(name, _READ, dir_fd=folder)

    def begin(self, path: bytes) -> Partial:
        """Begin a file; ``finish`` or ``abandon`` must follow."""
        return begin_part(path, self._place(path)[0])

    def copy_beginning(self, partial: Partial, size: int, digest: bytes) -> Generator[None, None, None]:
        """Begin a file with the first bytes of what stands in its place, a block at a step.

        Raises:
            OSError: they are not those of this digest any more.
        """
        with os.fdopen(self.open_existing(partial.path), "rb", buffering=0) as file:
            while size and (data := file.read(min(BLOCK, size))):
                partial.write(data)
                size -= len(data)
                yield
        if size or partial.sha.digest() != digest:
            raise OSError(f"{os.fsdecode(partial.path)!r} was changed here while it was collected")

    def finish(self, partial: Partial, mode: int, mtime_ns: int) -> None:
        """Put a proven file in its place."""
        try:
            partial.end()
            self._stamp(partial.fd, mode, mtime_ns)
            partial.put()
        except BaseException:
            self.abandon(partial)
            raise
        partial.close()

    def renew(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Give a file whose content is right already its mode and time."""
        with self._perhaps("times"):
            fd = self.open_existing(path)
            try:
                self._stamp(fd, mode, mtime_ns)
            finally:
                os.close(fd)

    def _stamp(self, fd: int, mode: int, mtime_ns: int) -> None:
        """No set-user bits, nothing that the umask or the node denies to others; always ours to read and write."""
        stamp = min(max(mtime_ns, 0), LAST_MTIME_S * 10**9)
        with self._perhaps("modes"):
            os.fchmod(fd, mode & self._allowed | 0o600)
        with self._perhaps("times"):
            os.utime(fd, ns=(stamp, stamp))

    @contextlib.contextmanager
    def _perhaps(self, what: str) -> Iterator[None]:
        """Go on without what a disk does not keep (exFAT, SMB, WSL): the content is what people want home."""
        try:
            yield
        except OSError as error:
            why_on_disk(error)
            self.lacks.setdefault(what, error.strerror or str(error))

    def abandon(self, partial: Partial) -> None:
        """Remove a file that is not to be."""
        unlink(partial.name, partial.folder)
        partial.close()

    def link(self, path: bytes, target: bytes) -> bool:
        """Put a link in its place; False if the same one stands there."""
        folder, name = self._place(path)
        with contextlib.suppress(OSError):
            if os.readlink(name, dir_fd=folder) == target:
                return False
        part = new_name()
        os.symlink(target, part, dir_fd=folder)
        try:
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            unlink(part, folder)
            raise
        return True

    def hash_beginning(self, path: bytes, size: int, sha: hashlib._Hash) -> Generator[None, None, None]:
        """Hash a local file's first bytes, a block at a step."""
        with os.fdopen(self.open_existing(path), "rb", buffering=0) as file:
            while size and (data := file.read(min(BLOCK, size))):
                sha.update(data)
                size -= len(data)
                yield


def missing_folders(path: Path) -> tuple[Path, ...]:
    """Return which of a folder and those above it are not there, the innermost first."""
    return tuple(itertools.takewhile(lambda folder: not os.path.lexists(folder), (path, *path.parents)))


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that one made, the innermost first, as far as nothing stands in them."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def why_on_disk(error: OSError) -> str:
    """Return why a name that the disk here refuses is left behind; raise what concerns all that follow."""
    if error.errno in _OF_ALL:
        raise error
    return f"on this machine: {error.strerror or error}"


def is_file(info: os.stat_result | None) -> TypeGuard[os.stat_result]:
    """Return whether a regular file stands there."""
    return info is not None and stat.S_ISREG(info.st_mode)
