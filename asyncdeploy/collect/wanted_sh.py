"""What is wanted of a node without python3: which files one request asks for, and which come by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from asyncdeploy.remote.sh_session import MAX_NAMES, MAX_WORDS, Found

SMALL = 1 << 20
"""Bytes of a file that is held in memory until its hash is proven; a larger one travels by itself."""
TAIL = 1 << 16
"""Bytes of a file that grew which are rather sent again than asked for by themselves: that takes 20 ms a file."""
TOGETHER = 4 << 20
"""Bytes of small files that travel in one request."""
WANT = 44
"""Bytes of what is wanted of a file: its number 4, offset 8, sha256 32."""


@attrs.frozen
class Wanted:
    """A file to send: its number, and the hash of what the client has of it."""

    number: int
    offset: int
    known: bytes


def read_wanted(asked: bytes | bytearray) -> Iterator[Wanted]:
    """Yield what the collector asked for."""
    data = bytes(asked)
    for at in range(0, len(data), WANT):
        number, offset = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 12], "big")
        yield Wanted(number, offset, data[at + 12 : at + WANT])


def sorted_out(wanted: Iterable[Wanted], sizes: Sequence[int]) -> tuple[list[Wanted], list[Wanted], list[Wanted]]:
    """Return who may be the same as here, who travels whole, many in one request, and who comes by itself."""
    same: list[Wanted] = []
    whole: list[Wanted] = []
    alone: list[Wanted] = []
    for want in wanted:
        size = sizes[want.number]
        if size > SMALL or TAIL < size != want.offset > 0:
            alone.append(want)
        else:
            (same if want.offset == size > 0 else whole).append(want)
    return same, whole, alone


def grouped(wanted: Iterable[Wanted], files: Sequence[tuple[bytes, Found]]) -> Iterator[list[Wanted]]:
    """Yield small files in groups for one request; ``files`` are (path, what stat says), by their numbers."""
    group: list[Wanted] = []
    size = names = 0
    for want in wanted:
        path, found = files[want.number]
        if group and (size + found.st_size > TOGETHER or names + len(path) > MAX_WORDS or len(group) >= MAX_NAMES):
            yield group
            group, size, names = [], 0, 0
        group.append(want)
        size, names = size + found.st_size, names + len(path)
    if group:
        yield group
