"""Blocks: parts of contents that travel together in one frame."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property

import attrs

BLOCK = 512 * 1024
"""Contents in one frame: half of what a frame may hold, so that one that does not compress fits as well."""
KEPT = 32
"""Blocks of a list that are kept as they are: 2 MB at most."""


@attrs.frozen
class Piece:
    """A part of a content: its number in ``Manifest.contents``, where it begins, how long it is."""

    content: int
    start: int
    length: int


class Block(tuple[Piece, ...]):
    """The parts that share a frame, in order; one of small files has 500, so its hash is worked out once."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()


class BlockList:
    """Parts of contents cut into blocks, in order; small ones share a block.

    200 GB are 400,000 blocks: they are kept as numbers, and made when they are asked for. To make a list and to cut it
    takes a look at all of them, so both are done in a thread. No two are compared, see ``Bundle.blocks``.

    Args:
        ranges: the parts.

    Attributes:
        ends: bytes of content up to the end of each block, once it is cut.
    """

    def __init__(self, ranges: Iterable[Piece]) -> None:
        self._contents, self._starts, self._lengths = array("I"), array("Q"), array("Q")
        for whole in ranges:
            self._contents.append(whole.content)
            self._starts.append(whole.start)
            self._lengths.append(whole.length)
        self._first, self._at = array("Q"), array("Q")  # of each block: the part that it begins with, and where in it
        self.ends = array("Q")
        self._made: dict[int, Block] = {}  # the last ones: nodes that need the same are about as far

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> Block:
        if (made := self._made.get(number)) is not None:
            return made
        pieces: list[Piece] = []
        part, at = self._first[number], self._at[number]
        left = self.ends[number] - (self.ends[number - 1] if number else 0)
        while left:
            length = min(self._lengths[part] - at, left)
            if length:
                pieces.append(Piece(self._contents[part], self._starts[part] + at, length))
            part, at, left = part + 1, 0, left - length
        if len(self._made) >= KEPT:
            del self._made[next(iter(self._made))]
        made = self._made[number] = Block(pieces)
        return made

    def __iter__(self) -> Iterator[Block]:
        return map(self.__getitem__, range(len(self)))

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.ends[-1] if self.ends else 0

    def fingerprint(self) -> bytes:
        """Return what only lists of the same parts, in the same order, have in common; cut or not."""
        hashed = hashlib.sha256()
        for column in (self._contents, self._starts, self._lengths):
            hashed.update(column)
        return hashed.digest()

    def cut(self, limit: int = BLOCK) -> BlockList:
        """Cut the parts into blocks of at most ``limit`` bytes, unless they are; what fits into a block is not torn."""
        done_before = room = 0
        for part, whole in enumerate(() if self.ends else self._lengths):
            done = 0
            while done < whole:
                length = min(whole - done, room)
                if not room or (length < whole - done and whole <= limit):  # full, or it begins the next one
                    self._first.append(part)
                    self._at.append(done)
                    self.ends.append(done_before + done)
                    room = limit
                    continue
                done += length
                room -= length
                self.ends[-1] += length
            done_before += whole
        return self
