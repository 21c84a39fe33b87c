"""What the large files of a workspace hashed to when they were last read, so that an unchanged one is not read again.

Small files are not remembered: reading two thousand of them takes 30 ms. Blocking code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs

from asyncdeploy.push.bundle.pieces import DIGEST, piece_count
from asyncdeploy.values.account import home_folder

MAX_BYTES = 64 << 20
"""Of one workspace's file: the digests of 128 GiB."""
MAX_WORKSPACES = 64
"""Files kept; the oldest go."""
RACY_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may be changed again within the same tick of its times; the
coarsest ticks we know are 2 s (git calls such a file racily clean)."""


@attrs.frozen
class Stamp:
    """What tells that a file is still the one that was hashed."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Return the stamp of what stat found."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def is_of(self, found: os.stat_result) -> bool:
        """Return whether stat found the same: asked of every file, so no second stamp is made for it."""
        return (
            self.inode == found.st_ino
            and self.ctime_ns == found.st_ctime_ns
            and self.mtime_ns == found.st_mtime_ns
            and self.size == found.st_size
        )

    def is_racy(self, read_at_ns: int) -> bool:
        """Return whether a change of the file since it was read could go unseen."""
        return max(self.mtime_ns, self.ctime_ns) > read_at_ns - RACY_NS


Known = Mapping[str, tuple[Stamp, bytes]]
"""A path to what it was and the digests of its pieces."""


def cache_folder() -> Path:
    """Return where we keep what can be made again."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given.startswith("/") else home_folder() / ".cache"
    return base / "asyncdeploy"


def load_hashes(root: str) -> dict[str, tuple[Stamp, bytes]]:
    """Return what is remembered of a workspace; nothing if that is lost or torn.

    Args:
        root: the workspace's real path.
    """
    try:
        data = _file(root).read_bytes()
        head, _, digests = data.partition(b"\n")
        rows = json.loads(head)
        if hashlib.sha256(digests).hexdigest() != rows.pop("check"):
            return {}
        known, at = {}, 0
        for path, *numbers in rows["files"]:
            stamp = Stamp(*numbers)
            size = piece_count(stamp.size) * DIGEST
            known[path] = (stamp, digests[at : at + size])
            at += size
        return known if at == len(digests) else {}
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return {}


def save_hashes(root: str, known: Known) -> None:
    """Remember a workspace's large files, instead of what was; a cache that cannot be written is none."""
    rows, parts, room = [], [], MAX_BYTES
    for path, (stamp, digests) in known.items():
        if len(digests) <= room:
            rows.append([path, *attrs.astuple(stamp)])
            parts.append(digests)
            room -= len(digests)
    body = b"".join(parts)
    head = json.dumps({"files": rows, "check": hashlib.sha256(body).hexdigest()})
    with contextlib.suppress(OSError, RuntimeError):
        _write(_file(root), head.encode() + b"\n" + body)


def _file(root: str) -> Path:
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
    return cache_folder() / "hashes" / name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, part = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    found = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime_ns, reverse=True)
    for old in found[MAX_WORKSPACES:]:
        old.unlink(missing_ok=True)
