"""What a node says it has to send: its listing, checked as it comes, and what was left behind."""

from __future__ import annotations

import os

import attrs

from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.names import misleads
from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.words import last_lines, one_line

MAX_SKIPPED = 1000
"""Reasons kept by name; a node with more to hide has made its point."""
MAX_LISTING_BYTES = 64 << 20
"""All names together: 200,000 of 300 bytes. It bounds what one node makes us remember."""
MAX_PATH = 4096
"""Linux takes no longer path, nor a longer link's target."""
MAX_SHOWN = 300
"""Of a path, as it is shown."""
HEAD = 25
"""Bytes of an entry before its names: kind 1, mode 4, size 8, mtime 12."""


@attrs.frozen
class Entry:
    """What the node says stands at a path below the source; kind is "f", "d" or "l"."""

    kind: str
    mode: int
    size: int
    mtime_ns: int
    path: bytes
    target: bytes


class LeftBehind:
    """What does not come, and why; the first of it by name.

    Attributes:
        missing: how many of them were asked for.
    """

    def __init__(self) -> None:
        self.missing = 0
        self._count = 0
        self._missed: list[tuple[str, str]] = []
        self._unwanted: list[tuple[str, str]] = []

    def add(self, path: bytes, reason: str, *, wanted: bool = True) -> None:
        """Remember one, and whether it was asked for; its name is made safe to show."""
        self._count += 1
        self.missing += wanted
        kept = self._missed if wanted else self._unwanted
        if len(kept) < MAX_SKIPPED:
            kept.append((one_line(path, MAX_SHOWN), reason))

    def all(self) -> tuple[tuple[str, str], ...]:
        """Return (name, reason) of each, first of those that were asked for, and how many more there were."""
        kept = (*self._missed, *self._unwanted)
        more = self._count - len(kept)
        return (*kept, *([("...", f"{more} more")] if more else ()))


def nonsense(node: str, what: str) -> ProtocolError:
    """Return the error for what no honest sender does."""
    return ProtocolError(node, f"while collecting, the node sent {what}", "do not trust what this node sends")


class Listing:
    """The entries of one node in the order of their numbers.

    A name that leads elsewhere, comes twice, or lies in no folder that was listed cannot come from reading a disk: the
    node is refused as a whole. It may have as many entries as the limits say, and MAX_LISTING_BYTES; in memory it takes
    eight times what came.
    """

    def __init__(self, node: str, limits: CollectLimits) -> None:
        self.entries: list[Entry] = []
        self.left_behind = LeftBehind()
        self._node = node
        self._limits = limits
        self._kinds: dict[bytes, str] = {b"": "d"}
        self._bytes = 0
        self._lines = 0

    def take(self, data: bytes) -> None:
        """Take one frame of entries."""
        self._bytes += len(data)
        if not data:
            raise nonsense(self._node, "a part of its listing with nothing in it")
        if self._bytes > MAX_LISTING_BYTES:
            raise nonsense(self._node, f"a listing of over {MAX_LISTING_BYTES >> 20} MiB, which is all that it may be")
        at = 0
        while at < len(data):
            entry, at = self._entry(data, at)
            self._check(entry)
            self._kinds[entry.path] = entry.kind
            self.entries.append(entry)

    def take_left_behind(self, payload: bytes) -> None:
        """Take the name of what the node does not send, and why."""
        self._count()
        name, _, why = payload.partition(b"\0")
        self.left_behind.add(name, last_lines(why, 1) or "the node does not say why")

    def _count(self) -> None:
        self._lines += 1
        if self._lines > self._limits.max_files + 1:  # one more, to say that this is not all
            raise nonsense(self._node, f"more than the {self._limits.max_files} entries that it was allowed")

    def _check(self, entry: Entry) -> None:
        self._count()
        path = entry.path
        what = repr(os.fsdecode(path[:300]))
        if misleads(path) or len(path) > MAX_PATH:
            raise nonsense(self._node, f"the name {what}, which no file below a folder can have")
        if path in self._kinds:
            raise nonsense(self._node, f"the name {what} twice")
        if self._kinds.get(path.rpartition(b"/")[0]) != "d":
            raise nonsense(self._node, f"the name {what}, which lies in no folder that it listed before")

    def _entry(self, data: bytes, at: int) -> tuple[Entry, int]:
        head = data[at : at + HEAD]
        path, at = self._text(data, at + HEAD)
        target, at = self._text(data, at)
        kind = chr(head[0])
        if kind not in "fdl":
            raise nonsense(self._node, f"an entry of kind {kind!r}, where 'f', 'd' or 'l' was expected")
        numbers = int.from_bytes(head[1:5], "big"), int.from_bytes(head[5:13], "big")
        return Entry(kind, *numbers, int.from_bytes(head[13:], "big", signed=True), path, target), at

    def _text(self, data: bytes, at: int) -> tuple[bytes, int]:
        size = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + size > len(data):
            raise nonsense(self._node, f"an entry with a name of {size} bytes, of which {len(data) - at - 2} came")
        return data[at + 2 : at + 2 + size], at + 2 + size
