"""Blocks as they travel: each is packed once, for the first node that needs it, and kept on our disk for the others."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO

from asyncdeploy.push.bundle.blocks import Block, Piece
from asyncdeploy.tasks.threads import run_in_thread

MAX_KEPT_BYTES = 4 << 30
"""Packed blocks kept on our disk for the next node; beyond it each node's are packed again."""
LEVEL = 1
"""zlib: a third of a repository's bytes at 90 MB/s; higher levels cost more time than the network."""
WORTH = 0.9
"""A block that shrinks to this is sent compressed."""
FAST_RATE = 1.5e9
"""Bytes a second from which on a network carries a block sooner than a node inflates it: beyond 10 Gbit/s."""
SAMPLE = 16 * 1024
"""A block whose first bytes do not shrink is not tried as a whole: trying costs ten times what hashing does."""
FEW = 4
"""A block of so few parts that stays as it is is read again from its file, not kept a second time."""
RAW = (-1, -1)


class PackedBlocks:
    """The packed blocks of one bundle.

    Args:
        read: returns a part of a content, blocking.
        store: an unbuffered file of ours, where packed blocks are kept.
    """

    def __init__(self, read: Callable[[Piece], bytes], store: BinaryIO) -> None:
        self._read = read
        self._store = store
        self._stored = 0
        self._kept: dict[Block, tuple[int, int]] = {}
        self._proofs: dict[Block, bytes] = {}
        self._locks: dict[Block, asyncio.Lock] = {}

    async def get(self, block: Block, rate: float = 0.0) -> bytes:
        """Return a block as it travels: one letter ("z" compressed, "r" raw), then the bytes.

        Args:
            block: which; it is packed once, for the first node that needs it.
            rate: bytes a second that the network to this node is known to carry, 0 if unknown.

        Raises:
            TransferFailed: a file is no longer what was scanned.
        """
        lock = self._locks.setdefault(block, asyncio.Lock())
        try:
            async with lock:
                place = self._kept.get(block)
                if place is None:
                    data = await run_in_thread(self._pack, block, rate > FAST_RATE)
                    self._keep(block, data)
                    return data
        finally:
            if not lock.locked():
                self._locks.pop(block, None)
        if place == RAW:
            return await run_in_thread(self._pack_raw, block)
        # From the page cache as a rule: cheaper than a hop to a thread.
        return os.pread(self._store.fileno(), place[1], place[0])

    async def proof(self, block: Block) -> bytes:
        """Return the sha256 of a block as it travels."""
        known = self._proofs.get(block)
        if known is None:
            data = await self.get(block)
            known = self._proofs[block] = hashlib.sha256(data).digest()
        return known

    def _keep(self, block: Block, data: bytes) -> None:
        if data[:1] == b"r" and len(block) <= FEW:
            self._kept[block] = RAW
            return
        if self._stored + len(data) > MAX_KEPT_BYTES:
            return
        try:
            if os.pwrite(self._store.fileno(), data, self._stored) != len(data):
                return
        except OSError:
            return  # our disk is full: the next node's block is packed again
        self._kept[block] = (self._stored, len(data))
        self._stored += len(data)

    def _pack(self, block: Block, fast: bool) -> bytes:
        raw = b"".join([self._read(piece) for piece in block])
        if not fast and (len(raw) < 4 * SAMPLE or len(zlib.compress(raw[:SAMPLE], LEVEL)) < SAMPLE * WORTH):
            small = zlib.compress(raw, LEVEL)
            if len(small) < len(raw) * WORTH:
                return b"z" + small
        return b"r" + raw

    def _pack_raw(self, block: Block) -> bytes:
        return b"".join([b"r", *map(self._read, block)])
