"""One chain of a relay: nodes that hand blocks on to each other, and how fast it turns out to be."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import anyio
import attrs

from asyncdeploy.push.bundle.bundle import Block, Bundle
from asyncdeploy.push.relay.feed import Feed
from asyncdeploy.push.relay.tls import Identity, make_identity

TRIAL_S = 0.2
"""How long our line is looked at before that is decided."""
TRIAL_NODES = 8
"""To how many nodes at a time, a block at a time: what is under way when a chain is formed was sent in vain."""
STALL_S = 3.0
"""A node that gets nothing for so long, though it is another's turn to send, is sent the rest directly."""
STALL_BLOCKS = 6
"""On a slow line it is the time that so many blocks take to leave us."""
FIRST_BLOCK_S = 30.0
"""Until the first one has left us: half a megabyte at 140 kbit/s."""
ANNOUNCED = 8
"""Blocks whose digests travel together."""


@attrs.define(eq=False)
class Member:
    """One push of a crew: its feed, and its place in a chain."""

    feed: Feed
    identity: Identity | None = None
    parent: Member | None = None
    child: Member | None = None
    chain: Chain | None = None
    trial: Trial | None = None
    placed: anyio.Event = attrs.field(factory=anyio.Event)  # it listens, or never will
    place: tuple[str, int] | None = None
    alive: bool = True
    settled: bool = False  # it has reached its child, or never will

    @property
    def name(self) -> str:
        """The node's."""
        return self.feed.node.name


class Trial:
    """Members that need the same blocks, while it is found out whether they should pass them on to each other."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.runners = self.members[:TRIAL_NODES]
        self.busy = set(self.runners)  # a block is on its way to them, or will be
        self.began = time.monotonic()
        self.decided = anyio.Event()
        for member in members:
            member.trial = self

    @property
    def is_over(self) -> bool:
        """True once enough was seen."""
        return time.monotonic() - self.began > TRIAL_S

    @property
    def is_stuck(self) -> bool:
        """True if somebody has had more than enough time for a block: the others do without him."""
        return time.monotonic() - self.began > TRIAL_S + STALL_S

    def seconds_left(self) -> float:
        """Return how long the rest would take from here, by what our line has carried so far."""
        arrived = sum(member.feed.bytes_reached for member in self.members)
        left = sum(member.feed.bytes_left for member in self.members if member.alive)
        return left * (time.monotonic() - self.began) / max(arrived, 1)


class Chain:
    """Members that pass the same blocks on, in order: those that have fewest of them first."""

    def __init__(self, members: Sequence[Member], bundle: Bundle, blocks: Sequence[Block]) -> None:
        self.members = tuple(members)
        self.bundle = bundle
        self.blocks = blocks
        self.announced = min(member.feed.reached for member in members)
        self.lock = anyio.Lock()
        self.sent, self.sending_s = 0, 0.0
        self.complete = anyio.Event()
        self._unsettled = len(self.members)
        for before, after in itertools.pairwise(members):
            before.child, after.parent = after, before
        for member in members:
            member.chain = self
            member.identity = make_identity(member.name)

    @property
    def stall_s(self) -> float:
        """Seconds without a block after which something is wrong, by what the client's own line has shown so far."""
        return max(STALL_S, STALL_BLOCKS * self.sending_s / self.sent) if self.sent else FIRST_BLOCK_S

    def settle(self, member: Member) -> None:
        """Note that a member's link is made, or will not be: what is sent before the last one is would miss its end."""
        if not member.settled:
            member.settled = True
            self._unsettled -= 1
            if not self._unsettled:
                self.complete.set()

    async def announce(self, number: int) -> None:
        """Tell every member that has a parent the digests of blocks up to this one, before anybody may get it."""
        async with self.lock:
            while self.announced <= number:
                first = self.announced
                some = self.blocks[first : first + ANNOUNCED]
                proofs = [await self.bundle.proof(block) for block in some]
                for member in self.members:
                    if member.alive and member.parent is not None:
                        member.feed.send_proofs(first, proofs)
                self.announced = first + len(some)
