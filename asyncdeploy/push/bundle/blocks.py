"""Blocks: parts of contents that travel together in one frame."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

BLOCK = 512 * 1024
"""Contents in one frame: half of what a frame may hold, so that one that does not compress fits as well."""


@attrs.frozen
class Piece:
    """A part of a content: its number in ``Manifest.contents``, where it begins, how long it is."""

    content: int
    start: int
    length: int


Block = tuple[Piece, ...]


def cut_blocks(ranges: Iterable[Piece], limit: int = BLOCK) -> list[Block]:
    """Return parts of contents cut into blocks of at most ``limit`` bytes, in order; small ones share a block."""
    blocks: list[Block] = []
    open_block: list[Piece] = []
    room = limit
    for whole in ranges:
        done = 0
        while done < whole.length:
            length = min(whole.length - done, room)
            if length < whole.length - done and length < limit and whole.length <= limit:
                length = 0  # what fits into a block is not torn: it begins the next one
            else:
                open_block.append(Piece(whole.content, whole.start + done, length))
            done += length
            room -= length
            if room == 0 or length == 0:
                blocks.append(tuple(open_block))
                open_block, room = [], limit
    if open_block:
        blocks.append(tuple(open_block))
    return blocks
