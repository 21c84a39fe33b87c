"""What names a content: the sha256 of a small one; of a large one, the sha256 of its pieces' sha256. Blocking code.

A large content is hashed by many threads at once, and two of them are compared, sent, resumed and mended by the piece.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Literal

import attrs

LARGE = 4 << 20
"""Bytes from which on a content has pieces; below it, it travels whole."""
PIECE = 64 << 10
"""Bytes of a piece: a changed megabyte costs one piece too many at most, a gigabyte has half a megabyte of digests."""
DIGEST = 32
SHORT = 8
"""Bytes of a digest that travel to find what is equal; the whole content is verified by whole digests afterwards."""
SEGMENT = 512 * PIECE
"""What one thread hashes at a time: 32 MiB, some 20 ms."""
ZERO = hashlib.sha256(bytes(PIECE)).digest()
"""The digest of a piece that is a hole, or as good as one."""

_HEAD = b"asyncdeploy-pieces 1\0"


def is_large(size: int) -> bool:
    """Return whether a content of so many bytes has pieces."""
    return size >= LARGE


def piece_count(size: int) -> int:
    """Return how many pieces a content of so many bytes has; the last may be short."""
    return -(-size // PIECE)


def large_id(digests: bytes) -> str:
    """Return what names a large content, as hex.

    Args:
        digests: the sha256 of its pieces, in order.
    """
    return hashlib.sha256(_HEAD + digests).hexdigest()


def hash_pieces(fd: int, size: int, executor: Executor, stop: threading.Event) -> bytes:
    """Return the sha256 of a large file's pieces, in order; short if the file is.

    Args:
        fd: the file; its offset is moved.
        size: bytes that are hashed.
        executor: threads that share the work; not one of its own.
        stop: set to end it early: what is returned then is short.

    Raises:
        OSError: it cannot be read.
    """
    starts = range(0, size, SEGMENT)
    return b"".join(executor.map(lambda start: _hash_segment(fd, start, min(start + SEGMENT, size), stop), starts))


def _hash_segment(fd: int, start: int, end: int, stop: threading.Event) -> bytes:
    digests, at, data_end = [], start, start
    buffer = memoryview(bytearray(PIECE))
    while at < end and not stop.is_set():
        if at >= data_end:
            # Looking for data moves the offset that the threads share; nobody reads there.
            data = min(_seek(fd, at, os.SEEK_DATA, end), end)
            holes = (data - at) // PIECE
            digests.append(ZERO * holes)
            at += holes * PIECE
            data_end = _seek(fd, data, os.SEEK_HOLE, end)
            continue
        size = os.preadv(fd, [buffer[: min(PIECE, end - at)]], at)
        if not size:
            break
        digests.append(hashlib.sha256(buffer[:size]).digest())
        at += PIECE
    return b"".join(digests)


def _seek(fd: int, at: int, what: int, end: int) -> int:
    try:
        return os.lseek(fd, at, what)
    except OSError:
        return end if what == os.SEEK_DATA else at + PIECE


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
