"""Node -> node, for many at once: the client uploads a push's blocks about once, the nodes pass them on.

Pushes of one bundle that go on at the same time are a Crew. Those of its members that need the same blocks form a
chain: the client feeds the first, each passes every block on to the next as it comes, over mutual TLS with
certificates made for this run. Each block is verified against a digest that came over the node's own SSH channel.
Whatever goes wrong on the way (no route, a peer that dies, lies or stalls), the node that misses blocks says so, and
the client sends the rest to it directly; those behind it go on getting them from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import anyio

from asyncdeploy.push.bundle.bundle import Block, Bundle
from asyncdeploy.push.relay.chain import Chain, Member, Trial
from asyncdeploy.push.relay.feed import Feed

Relay = Literal["auto", "on", "off"]
T = TypeVar("T")

WORTH_BYTES = 16 << 20
"""Uploads that a relay must save to be worth a thought: at 1 Gbit/s they take as long as its links do."""
WORTH_NODES = 3
WORTH_S = 1.0
"""...and the time that the rest would take from here: by then its links are made and paid for, on any machine."""
GATHER_S = 2.0
"""How long those who are ready wait for the others, at most."""
PATIENCE = 0.5
"""Once half of them are ready, the others have half as much time again..."""
PATIENCE_S = 0.25
"""...and at least this: looking at what a large file's old version is good for takes so long."""
SETUP_S = 2.0
"""For a node to listen, and for the one before it to reach it: two round trips and a TLS handshake."""
LOOK_S = 0.5


class Crew:
    """Pushes of one bundle that go on at the same time.

    Args:
        source: what they push, or will once it is scanned.
        mode: "auto" forms chains where that is worth its links, "on" wherever two nodes need the same, "off" never.
        nodes: the names of the nodes that are pushed to, in the order in which blocks are passed on.
        at_once: how many of the pushes may go on at the same time.
    """

    def __init__(
        self,
        source: Bundle | asyncio.Future[Bundle],
        mode: Relay = "off",
        nodes: Sequence[str] = (),
        at_once: int = 1,
    ) -> None:
        self._source = source
        self.mode = mode
        self.ranks = {name: rank for rank, name in enumerate(nodes)}
        self.expected = set(nodes)
        self.at_once = at_once
        self.waiting: list[Member] = []
        self.opened = anyio.Event()
        self.began = time.monotonic()
        self.close_at = float("inf")

    async def scanned(self) -> Bundle:
        """Return what is pushed, once it is scanned.

        Raises:
            TransferFailed, ToolMissing: it cannot be, see ``pack_workspace``.
        """
        if not isinstance(self._source, Bundle):
            self._source = await asyncio.shield(self._source)
            self.began = time.monotonic()
        return self._source

    @property
    def bundle(self) -> Bundle:
        """What is pushed."""
        assert isinstance(self._source, Bundle), "a push waits for the scan"
        return self._source

    def gone(self, name: str) -> None:
        """One push less to wait for: it failed, or had nothing to send, or is over."""
        if name in self.expected:
            self.expected.remove(name)
            self._close_if_complete()

    async def feed(self, feed: Feed) -> None:
        """Bring a feed's blocks to its node, by a chain or directly, until this is cancelled: its node has them all."""
        member = Member(feed)
        try:
            if self.mode != "off" and feed.blocks:
                await self._join(member)
            else:
                self.gone(member.name)
            await self._serve(member)
            await anyio.sleep_forever()
        finally:
            self._leave(member)

    # --- who works with whom -----------------------------------------------------

    async def _join(self, member: Member) -> None:
        """Wait until the crew is complete enough, and find the member's place in it."""
        opened = self.opened
        self.waiting.append(member)
        now = time.monotonic()
        if len(self.waiting) == 1:
            self.close_at = now + GATHER_S
        if len(self.waiting) * 2 >= min(len(self.expected), self.at_once):
            self.close_at = min(self.close_at, now + max(PATIENCE_S, (now - self.began) * PATIENCE))
        self._close_if_complete()
        while not opened.is_set():
            with anyio.move_on_after(max(0.0, self.close_at - time.monotonic())):
                await opened.wait()
            if not opened.is_set() and time.monotonic() >= self.close_at:
                self._close()

    def _close_if_complete(self) -> None:
        if self.waiting and len(self.waiting) >= min(len(self.expected), self.at_once):
            self._close()

    def _close(self) -> None:
        """Form chains of those who wait; those who come later form the next ones."""
        waiting, self.waiting = self.waiting, []
        self.expected.difference_update(member.name for member in waiting)
        groups: dict[tuple[Block, ...], list[Member]] = {}
        for member in waiting:
            if member.alive:
                groups.setdefault(tuple(member.feed.blocks), []).append(member)
        for blocks, members in groups.items():
            members.sort(key=lambda member: self.ranks.get(member.name, len(self.ranks)))
            if self.mode == "on" and len(members) > 1:
                Chain(members, self.bundle, blocks)
            elif self.mode == "auto" and self._is_worth_a_thought(blocks, len(members)):
                Trial(members)
        opened, self.opened = self.opened, anyio.Event()
        self.began, self.close_at = time.monotonic(), float("inf")
        opened.set()

    def _is_worth_a_thought(self, blocks: Sequence[Block], nodes: int) -> bool:
        saved = (nodes - 1) * sum(piece.length for block in blocks for piece in block)
        return nodes >= WORTH_NODES and saved >= WORTH_BYTES

    def _decide(self, trial: Trial) -> None:
        """End a trial: a chain of those who still need blocks, or all of them directly."""
        if not trial.decided.is_set():
            trial.decided.set()
            rest = [member for member in trial.members if member.alive and member.feed.bytes_left]
            rest = [member for member in rest if member not in trial.busy]
            rest.sort(key=lambda member: member.feed.reached)
            if len(rest) > 1 and trial.seconds_left() > WORTH_S:
                Chain(rest, self.bundle, rest[0].feed.blocks)

    def _leave(self, member: Member) -> None:
        """Take a member out, however its push ended: the one behind it must not wait for what will not come."""
        member.alive = False
        member.placed.set()
        if member.chain is not None:
            member.chain.settle(member)
        if member in self.waiting:
            self.waiting.remove(member)
            self.gone(member.name)
        if member.child is not None and member.child.alive and not member.feed.done:
            member.child.feed.order_leave()

    # --- what the client does for a member ----------------------------------------

    async def _serve(self, member: Member) -> None:
        if member.trial is not None:
            await self._try(member, member.trial)
        listens = member.parent is not None and await self._listen(member)
        if member.child is not None:
            await self._connect(member, member.child)
        if member.chain is not None:
            member.chain.settle(member)
            if not listens:
                await _within(2 * SETUP_S, member.chain.complete.wait)
        if not listens:
            await self._send(member, member.feed.reached)
            return
        await self._watch(member)
        await self._send(member, member.feed.asked_from)

    async def _try(self, member: Member, trial: Trial) -> None:
        """Send a block at a time, or wait for those who do, until it is known how fast our line is."""
        if member in trial.busy:
            try:
                while not trial.is_over and member.feed.bytes_left:
                    await member.feed.send_and_wait(member.feed.reached)
            finally:
                trial.busy.discard(member)
        while not trial.decided.is_set():
            # What is on its way to a node must have arrived, or those behind it in a chain would miss it.
            if not trial.busy or trial.is_stuck:
                self._decide(trial)
            with anyio.move_on_after(LOOK_S):
                await trial.decided.wait()

    async def _listen(self, member: Member) -> bool:
        """Make a node listen for its parent; False if it cannot."""
        feed, parent = member.feed, member.parent
        assert member.identity is not None
        assert parent is not None
        assert parent.identity is not None
        try:
            feed.order_listen(member.identity.pem, parent.identity.certificate)
            member.place = await _within(SETUP_S, feed.listening)
        finally:
            member.placed.set()
        if member.place is None:
            feed.direct_because = feed.trouble or "it did not listen"
            member.parent = None
        return member.place is not None

    async def _connect(self, member: Member, child: Member) -> None:
        """Make a node reach its child; the child is told if it cannot."""
        assert member.identity is not None
        assert child.identity is not None
        await child.placed.wait()
        if child.place is None or not child.alive:
            return
        member.feed.order_connect(child.name, child.place, member.identity.pem, child.identity.certificate)
        if not await _within(SETUP_S, member.feed.linked):
            child.feed.direct_because = f"{member.name} did not reach it"
            child.feed.order_leave()

    async def _watch(self, member: Member) -> None:
        """Wait until a node with a parent asks for the rest; see to it that one which is stalled does."""
        feed, parent, chain = member.feed, member.parent, member.chain
        assert parent is not None
        assert chain is not None
        reached, waited = feed.reached, 0.0
        while not feed.asked.is_set():
            # Looks are counted, not hours: time in which we slept ourselves is nobody's fault.
            with anyio.move_on_after(LOOK_S):
                await feed.asked.wait()
            reached, waited = (feed.reached, 0.0) if feed.reached > reached else (reached, waited + LOOK_S)
            if waited > chain.stall_s and not feed.direct_because:
                feed.direct_because = f"nothing came from {parent.name} for {waited:.1f} s"
                feed.order_leave()
        member.parent = None

    async def _send(self, member: Member, first: int) -> None:
        for number in range(first, len(member.feed.blocks)):
            if member.chain is not None:
                await member.chain.announce(number)
            began = time.monotonic()
            await member.feed.send_block(number)
            if member.chain is not None:
                member.chain.sent += 1
                member.chain.sending_s += time.monotonic() - began


async def _within(limit_s: float, wait: Callable[[], Awaitable[T]]) -> T | None:
    with anyio.move_on_after(limit_s):
        return await wait()
    return None
