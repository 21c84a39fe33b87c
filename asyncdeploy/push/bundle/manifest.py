"""A tree as data: entries, their digest, the difference of two trees. Pure: nothing here touches a disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from typing import Literal, Self

import attrs

Kind = Literal["file", "dir", "link", "absent"]

MAX_ENTRIES = 1_000_000
"""Names in one tree: ten times the largest repository; beyond it something was not ignored that should be."""
MAX_PATH = 4000
"""Bytes of a path: the node's own limit is 4096 from the site's folder on."""
MAX_NAME = 255
"""Bytes of one name, on every file system we know."""
MAX_DEPTH = 400
"""Folders in folders: nobody's source has more, and a program that walks them calls itself for each."""
SHOWN = 160
"""Letters of a path in a message; of a longer one its beginning and its end."""

_HEAD = b"asyncdeploy-manifest 1"
_LETTERS: dict[Kind, str] = {"file": "f", "dir": "d", "link": "l", "absent": "a"}
_KINDS: dict[bytes, Kind] = {letter.encode(): kind for kind, letter in _LETTERS.items()}
_FIELDS = 7


@attrs.frozen
class Entry:
    """One name of a tree.

    Attributes:
        path: relative to the tree, "/" between names; bytes that are no UTF-8 are kept as surrogates.
        kind: "file", "dir" (an empty folder; others are made as they are needed), "link", or "absent": what is not
            checked out here, so that what a node has of it, and below it, is neither sent nor removed.
        mode: permission bits; 0 for a link and what is absent.
        size: bytes of a file, else 0.
        sha256: a file's content as hex, else "".
        target: where a link leads, else "".
        mtime_ns: nanoseconds since 1970; 0 for a folder and a link.
    """

    path: str
    kind: Kind = "file"
    mode: int = 0o644
    size: int = 0
    sha256: str = ""
    target: str = ""
    mtime_ns: int = 0


@attrs.frozen
class Difference:
    """What leads from one tree to another, as sorted paths.

    Attributes:
        added / removed: names that only the new or only the old tree has.
        changed: names with another content, kind or target.
        modes: names with the same content and other permission bits.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.modes)


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: os.fsencode(entry.path)))


@attrs.frozen(slots=False)
class Manifest:
    """A tree: entries sorted by the bytes of their paths, each path once.

    Raises:
        ValueError: a path that leaves the tree, comes twice, lies below a file or link or is too long; too many.
    """

    entries: tuple[Entry, ...] = attrs.field(converter=_sorted)

    def __attrs_post_init__(self) -> None:
        if len(self.entries) > MAX_ENTRIES:
            raise ValueError(f"a tree of at most {MAX_ENTRIES} names was expected, got {len(self.entries)}")
        solid: set[str] = set()
        for entry in self.entries:
            check_path(entry.path)
            if entry.path in solid:
                raise ValueError(f"a path comes twice in a tree: {entry.path!r}")
            solid.add(entry.path)
        solid.difference_update(entry.path for entry in self.entries if entry.kind in ("dir", "absent"))
        free: set[str] = set()
        for entry in self.entries:
            folder = entry.path.rpartition("/")[0]
            if folder and folder not in free:
                if any(above in solid for above in upwards(folder)):
                    raise ValueError(f"a path lies below a file or link: {entry.path!r}")
                free.add(folder)

    @cached_property
    def digest(self) -> str:
        """Names the tree: sha256, as hex, over paths, kinds, permission bits, contents and targets (not times)."""
        columns = [entry.path for entry in self.entries]
        columns += [_LETTERS[entry.kind] for entry in self.entries]
        columns += [f"{entry.mode:o}" for entry in self.entries]
        columns += [entry.sha256 for entry in self.entries]
        columns += [entry.target for entry in self.entries]
        return hashlib.sha256(os.fsencode("\0".join(columns))).hexdigest()

    @cached_property
    def contents(self) -> tuple[Entry, ...]:
        """One file entry for each different content, in the order in which they first come."""
        first: dict[str, Entry] = {}
        for entry in self.entries:
            if entry.kind == "file":
                first.setdefault(entry.sha256, entry)
        return tuple(first.values())

    def to_bytes(self) -> bytes:
        """Return the tree as fields joined by NUL, which no path holds: the same bytes for the same tree and times."""
        rows = [
            f"{_LETTERS[entry.kind]}\0{entry.mode:o}\0{entry.size}\0{entry.mtime_ns}"
            f"\0{entry.sha256}\0{entry.path}\0{entry.target}"
            for entry in self.entries
        ]
        return os.fsencode("\0".join([_HEAD.decode(), *rows]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Build a Manifest from ``to_bytes``'s data, 25 times as large in memory; ValueError if they are not."""
        head, *fields = data.split(b"\0")
        if head != _HEAD or len(fields) % _FIELDS:
            raise ValueError(f"a manifest that begins with {_HEAD!r} was expected, got {data[:40]!r}")
        try:
            return cls([_entry(fields[at : at + _FIELDS]) for at in range(0, len(fields), _FIELDS)])
        except KeyError as error:
            raise ValueError(f"an entry of a known kind was expected in the manifest, got {error}") from None


def _entry(fields: list[bytes]) -> Entry:
    kind, mode, size, mtime, sha256, path, target = fields
    text = os.fsdecode(path)
    return Entry(text, _KINDS[kind], int(mode, 8), int(size), sha256.decode("ascii"), os.fsdecode(target), int(mtime))


def upwards(folder: str) -> Iterable[str]:
    """Yield a folder of a tree and those above it, but not the top."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def check_path(path: str) -> None:
    """Raise ValueError unless ``path`` stays inside its tree and fits every node."""
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or "\0" in path:
        raise ValueError(f"a path inside the tree was expected, got {shown(path)!r}")
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"at most {MAX_DEPTH} folders in folders were expected, got {len(parts) - 1}: {shown(path)!r}")
    if len(path) > MAX_NAME and (
        len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(part)) > MAX_NAME for part in parts)
    ):
        what = f"a path of at most {MAX_PATH} bytes and names of at most {MAX_NAME} were expected"
        raise ValueError(f"{what}, got {shown(path)!r}")


def shown(path: str) -> str:
    """Return a path as a message has it: a very long one is cut in its middle."""
    return path if len(path) <= SHOWN else f"{path[: SHOWN // 2]}...{path[-SHOWN // 2 :]}"


def difference(old: Manifest, new: Manifest) -> Difference:
    """Return what leads from ``old`` to ``new``; times do not count."""
    before = {entry.path: entry for entry in old.entries}
    after = {entry.path: entry for entry in new.entries}
    both = [(before[path], entry) for path, entry in after.items() if path in before]
    same = [(was, entry) for was, entry in both if _content(was) == _content(entry)]
    return Difference(
        added=tuple(path for path in after if path not in before),
        removed=tuple(path for path in before if path not in after),
        changed=tuple(entry.path for was, entry in both if _content(was) != _content(entry)),
        modes=tuple(entry.path for was, entry in same if was.mode != entry.mode),
    )


def _content(entry: Entry) -> tuple[str, str, str]:
    return entry.kind, entry.sha256, entry.target
