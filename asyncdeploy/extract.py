"""Write what a node sent below a local folder: nothing outside it, nothing half-done under a final name.

The node is not trusted, so neither tarfile nor paths are: every folder on the way is opened without following links,
every file is written under a name of ours beside its place and renamed there when its content is proven.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

PART = ".asyncdeploy-part-"
MAX_NAME = 255
LAST_MTIME_S = 1 << 33
"""The year 2242; a wilder time is a node's joke."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def why_not(path: bytes, max_depth: int) -> str | None:
    """Return why a node's name for a file is refused, or None."""
    parts = path.split(b"/")
    if not path or path.startswith(b"/") or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        return "its name would lead elsewhere"
    if len(parts) > max_depth:
        return f"deeper than {max_depth} folders"
    if any(len(part) > MAX_NAME for part in parts):
        return f"a name of over {MAX_NAME} bytes"
    if any(part.startswith(PART.encode()) for part in parts):
        return "its name is one of our own"
    return None


def link_escapes(path: bytes, target: bytes) -> bool:
    """Return whether a link would lead out of the tree it stands in."""
    if not target or target.startswith(b"/") or b"\0" in target:
        return True
    depth = path.count(b"/")
    for part in target.split(b"/"):
        depth += {b"..": -1, b"": 0, b".": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


@attrs.define
class Partial:
    """A file on its way: written under a name of ours."""

    path: bytes
    fd: int
    folder: int
    name: str
    sha: hashlib._Hash

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.sha.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]


class Target:
    """A local folder that takes what comes; a context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = -1
        self._folders: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._folders.values():
            os.close(fd)
        os.close(self._root)

    def folder(self, path: bytes) -> int:
        """Return a descriptor of a folder below the root, made where it is missing; never through a link."""
        if not path:
            return self._root
        if (known := self._folders.get(path)) is not None:
            return known
        parent, _, name = path.rpartition(b"/")
        above = self.folder(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=above)
        fd = os.open(name, _FOLDER, dir_fd=above)
        if len(self._folders) >= 256:  # descriptors are few; folders come one after the other
            for old in self._folders.values():
                os.close(old)
            self._folders.clear()
        self._folders[path] = fd
        return fd

    def look(self, path: bytes) -> os.stat_result | None:
        """Return what stands at a path, not following links, or None."""
        parent, _, name = path.rpartition(b"/")
        try:
            return os.stat(name, dir_fd=self.folder(parent), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_existing(self, path: bytes) -> int:
        """Open a regular file that stands there, for reading."""
        parent, _, name = path.rpartition(b"/")
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.folder(parent))

    def begin(self, path: bytes, copy_bytes: int = 0) -> Partial:
        """Begin a file; with ``copy_bytes`` it starts with so many bytes of what stands there."""
        parent, _, _ = path.rpartition(b"/")
        folder = os.dup(self.folder(parent))
        name = PART + secrets.token_hex(8)
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        except BaseException:
            os.close(folder)
            raise
        partial = Partial(path, fd, folder, name, hashlib.sha256())
        try:
            if copy_bytes:
                self._copy(partial, copy_bytes)
        except BaseException:
            self.abandon(partial)
            raise
        return partial

    def _copy(self, partial: Partial, size: int) -> None:
        with os.fdopen(self.open_existing(partial.path), "rb", buffering=0) as file:
            while size:
                data = file.read(min(1 << 18, size))
                if not data:
                    raise OSError("the local file became shorter")
                partial.write(data)
                size -= len(data)

    def finish(self, partial: Partial, mode: int, mtime_ns: int) -> None:
        """Put a proven file in its place."""
        try:
            os.fchmod(partial.fd, 0o755 if mode & 0o100 else 0o644)
            stamp = min(max(mtime_ns, 0), LAST_MTIME_S * 10**9)
            os.utime(partial.fd, ns=(stamp, stamp))
            name = partial.path.rpartition(b"/")[2]
            os.rename(partial.name, name, src_dir_fd=partial.folder, dst_dir_fd=partial.folder)
        except BaseException:
            self.abandon(partial)
            raise
        os.close(partial.fd)
        os.close(partial.folder)

    def abandon(self, partial: Partial) -> None:
        """Remove a file that is not to be."""
        os.close(partial.fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial.name, dir_fd=partial.folder)
        os.close(partial.folder)

    def link(self, path: bytes, target: bytes) -> bool:
        """Put a link in its place; False if the same one stands there."""
        parent, _, name = path.rpartition(b"/")
        folder = self.folder(parent)
        with contextlib.suppress(OSError):
            if os.readlink(name, dir_fd=folder) == target:
                return False
        part = PART + secrets.token_hex(8)
        os.symlink(target, part, dir_fd=folder)
        try:
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(part, dir_fd=folder)
            raise
        return True


def remove_parts(path: Path) -> None:
    """Remove what a collect that was killed left below a folder."""
    for folder, _, files in os.walk(path):
        for name in files:
            if name.startswith(PART):
                with contextlib.suppress(FileNotFoundError):
                    Path(folder, name).unlink()


def hash_beginning(target: Target, path: bytes, size: int) -> bytes:
    """Return the sha256 of a local file's first bytes."""
    sha = hashlib.sha256()
    with os.fdopen(target.open_existing(path), "rb", buffering=0) as file:
        while size:
            data = file.read(min(1 << 20, size))
            if not data:
                break
            sha.update(data)
            size -= len(data)
    return sha.digest()


def is_file(info: os.stat_result | None) -> bool:
    """Return whether a regular file stands there."""
    return info is not None and stat.S_ISREG(info.st_mode)
