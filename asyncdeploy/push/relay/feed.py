"""The blocks of one push on their way to a node: sent by us, or by another node that we told it of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anyio

from asyncdeploy.push.bundle.blocks import BlockList
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call
from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.events import BytesMoved
from asyncdeploy.values.words import one_line

PROOF = 16
"""Bytes of a block's sha256 that a node gets: enough that no peer finds another block for it."""
MAX_WHY = 200
"""Characters of why a link failed: a sentence."""
MAX_NEWS = 4096
"""Bytes of what a node says about a link."""


class Feed:
    """What a node still needs of a bundle, and how far it is.

    Attributes:
        node: whose.
        bundle: what is pushed.
        blocks: what it needs of it; one and the same list for all that need the same.
        sent: bytes that we sent it ourselves.
        reached: blocks that it has, as it says.
        asked / asked_from: set when it has lost its parent; the first block that it lacks.
        direct_because: why it was sent blocks by us although it had a parent; "" if it was not.
        trouble: what it says of a link that failed.
        done: it has all of them.
        over: its push has ended, however.
    """

    def __init__(self, remote: Remote, call: Call, bundle: Bundle, blocks: BlockList) -> None:
        self.node = remote.node
        self.bundle = bundle
        self.blocks = blocks
        self.sent = self.reached = self.asked_from = 0
        self.asked = anyio.Event()
        self.direct_because = self.trouble = ""
        self.done = self.over = False
        self._sent_blocks = 0
        self._remote = remote
        self._call = call
        self._listening = anyio.Event()
        self._linked = anyio.Event()
        self._place: tuple[str, int] | None = None
        self._is_linked = False
        self._moved = anyio.Event()
        self._shown = 0

    @property
    def relayed(self) -> bool:
        """True if the node got blocks that we did not send it."""
        return self.done and self._sent_blocks < len(self.blocks)

    # --- blocks ---------------------------------------------------------------------

    @property
    def bytes_reached(self) -> int:
        """Bytes of content that the node has, as it says."""
        return self.blocks.ends[self.reached - 1] if self.reached else 0

    @property
    def bytes_left(self) -> int:
        """Bytes of content that it has not said to have."""
        return self.blocks.size - self.bytes_reached

    async def send_from(self, first: int) -> None:
        """Send all blocks from one on ourselves."""
        for number in range(first, len(self.blocks)):
            await self.send_block(number)

    async def send_block(self, number: int) -> None:
        """Send one block ourselves; waits until the connection takes more."""
        await self._send(b"D", number)
        self._show(number + 1)

    async def send_and_wait(self, number: int) -> None:
        """Send one block ourselves, and wait until the node says that it has it."""
        await self._send(b"A", number)
        while self.reached <= number:
            self._moved = anyio.Event()
            await self._moved.wait()

    async def _send(self, kind: bytes, number: int) -> None:
        data = await self.bundle.packed(self.blocks[number], self._call.rate())
        self._call.send(kind, number.to_bytes(4, "big") + data)
        await self._call.drain()
        self.sent += len(data)
        self._sent_blocks += 1

    def send_proofs(self, first: int, proofs: Sequence[bytes]) -> None:
        """Tell the node what blocks must look like that somebody else sends it."""
        self._call.send(b"V", first.to_bytes(4, "big") + b"".join([proof[:PROOF] for proof in proofs]))

    def _show(self, reached: int) -> None:
        if reached > self._shown:
            self._shown = reached
            done, total = self.blocks.ends[reached - 1], self.blocks.size
            self._remote.emit(BytesMoved(node=self.node.name, stage="push", done=done, total=total))

    # --- links ------------------------------------------------------------------------

    def order_listen(self, identity: str, peer: str) -> None:
        """Make the node wait for its parent."""
        self._order(do="listen", address=self.node.address or "", identity=identity, peer=peer)

    def order_connect(self, name: str, place: tuple[str, int], identity: str, peer: str) -> None:
        """Make the node pass on to another one what it gets."""
        self._order(do="connect", name=name, address=place[0], port=place[1], identity=identity, peer=peer)

    def order_leave(self) -> None:
        """Make the node give up its parent and ask us."""
        self._order(do="leave")

    def _order(self, **order: Any) -> None:
        self._call.send(b"R", json.dumps(order).encode())

    async def listening(self) -> tuple[str, int] | None:
        """Return where the node listens; None if it cannot."""
        await self._listening.wait()
        return self._place

    async def linked(self) -> bool:
        """Return whether the node has reached its child."""
        await self._linked.wait()
        return self._is_linked

    # --- what the node says -------------------------------------------------------------

    def heed(self, kind: bytes, payload: bytes) -> bool:
        """Take a frame of the node's; False if it is none of ours.

        Raises:
            ProtocolError: it makes no sense.
        """
        try:
            if kind == b"Q":
                self._progress(int.from_bytes(payload, "big"))
            elif kind == b"X":
                self._ask(int.from_bytes(payload[:4], "big"), one_line(payload[4:]))
            elif kind == b"R" and len(payload) <= MAX_NEWS:
                self._news(Answer.read(self.node.name, "an order about a link", payload))
            else:
                return False
        except ValueError as error:
            raise ProtocolError(self.node.name, f"a push was told {kind!r}: {error}", "", one_line(payload)) from None
        return True

    def _progress(self, reached: int) -> None:
        if not self.reached <= reached <= len(self.blocks):
            raise ValueError(f"from {self.reached} to {len(self.blocks)} blocks were expected, got {reached}")
        if reached > self.reached:
            self.reached = reached
            self._show(reached)
            self._moved.set()

    def _ask(self, first: int, why: str) -> None:
        if first > len(self.blocks):
            raise ValueError(f"at most {len(self.blocks)} blocks were expected, got {first}")
        self.reached = max(self.reached, first)
        self.asked_from = first
        self.direct_because = self.direct_because or why
        self.asked.set()

    def _news(self, news: Answer) -> None:
        if news["child"].is_there:
            self._is_linked = news["linked"].flag()
            if not self._is_linked:
                self.trouble = news["why"].text(limit=MAX_WHY)
            self._linked.set()
        elif news["port"].is_there:
            self._place = (news["address"].exact(), news["port"].whole(1, 65535))
            self._listening.set()
        else:
            self.trouble = news["why"].text(limit=MAX_WHY)
            (self._listening if news["cannot"].text() == "listen" else self._linked).set()
