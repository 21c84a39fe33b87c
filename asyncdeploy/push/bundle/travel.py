"""Which pieces of a large content a node needs: pure arithmetic over digests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import attrs

from asyncdeploy.push.bundle.pieces import DIGEST, PIECE, SHORT, ZERO, piece_count

Fate = Literal["keep", "zero", "send"]
"""What becomes of a piece: the node's own is right, it is all zeros, it must travel."""

_LETTERS: dict[Fate, bytes] = {"keep": b"k", "zero": b"z", "send": b"s"}


@attrs.frozen
class Run:
    """Pieces in a row that share a fate."""

    fate: Fate
    count: int


def runs_of(digests: bytes, base: bytes) -> tuple[Run, ...]:
    """Return what becomes of a content's pieces.

    Args:
        digests: the sha256 of its pieces.
        base: the first bytes (SHORT) of the digests of what the node has; fewer pieces, or none, are allowed.
    """
    fates = itertools.groupby(_fates(digests, base))
    return tuple(Run(fate, sum(1 for _ in same)) for fate, same in fates)


def _fates(digests: bytes, base: bytes) -> Iterator[Fate]:
    known = len(base) // SHORT
    for number in range(len(digests) // DIGEST):
        digest = digests[number * DIGEST : (number + 1) * DIGEST]
        if number < known and digest.startswith(base[number * SHORT : (number + 1) * SHORT]):
            yield "keep"
        else:
            yield "zero" if digest == ZERO else "send"


def pack_runs(runs: tuple[Run, ...]) -> bytes:
    """Return runs as they travel: a letter and four bytes of count each."""
    return b"".join([_LETTERS[run.fate] + run.count.to_bytes(4, "big") for run in runs])


def sent_ranges(runs: tuple[Run, ...], size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) in bytes of what travels of a content of ``size`` bytes."""
    assert sum(run.count for run in runs) == piece_count(size), "the runs are of another content"
    at = 0
    for run in runs:
        end = min(at + run.count * PIECE, size)
        if run.fate == "send":
            yield at, end - at
        at = end
