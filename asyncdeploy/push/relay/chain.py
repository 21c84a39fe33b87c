"""A chain: nodes that hand the blocks of a push on to each other, and what the client does for each of them.

The client makes every node listen for the one before it, and reach the one behind it; then it feeds the first. A node
that misses a block says so, and is fed by the client from there on, while those behind it still get theirs from it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import attrs

from asyncdeploy.push.relay.feed import Feed
from asyncdeploy.push.relay.tls import Identity, make_identity

SETUP_S = 2.0
"""For a node to listen, and for the one before it to reach it: two round trips and a TLS handshake."""
STALL_S = 3.0
"""A node that gets nothing for so long, though it is another's turn to send, is sent the rest directly."""
STALL_BLOCKS = 6
"""On a slow uplink it is the time that so many blocks take to leave us."""
FIRST_BLOCK_S = 30.0
"""Until the first one has left us: half a megabyte at 140 kbit/s."""
LOOK_S = 0.5
ANNOUNCED = 8
"""Blocks whose digests travel together."""

T = TypeVar("T")


@attrs.define(eq=False)
class RelayNode:
    """A node's place in a chain.

    Attributes:
        feed: its blocks.
        identity: what it shows to its peers.
        parent: who sends it blocks; None if we do, from the start or by now.
        child: whom it passes them on to; None for the last one.
        place: where it listens.
        placed: it listens, or never will.
        settled: it has reached its child, or never will.
    """

    feed: Feed
    identity: Identity
    parent: RelayNode | None = None
    child: RelayNode | None = None
    place: tuple[str, int] | None = None
    placed: anyio.Event = attrs.field(factory=anyio.Event)
    settled: bool = False


class Chain:
    """Feeds that need the same blocks, in the order in which these are passed on.

    Args:
        feeds: those that have fewest of the blocks first.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._blocks = feeds[0].blocks
        self._bundle = feeds[0].bundle
        self._nodes = {feed: RelayNode(feed, make_identity(feed.node.name)) for feed in feeds}
        for before, after in itertools.pairwise(self._nodes.values()):
            before.child, after.parent = after, before
        self._unsettled = len(self._nodes)
        self._complete = anyio.Event()
        self._announced = min(feed.reached for feed in feeds)
        self._announcing = anyio.Lock()
        self._sent, self._sending_s = 0, 0.0

    def __contains__(self, feed: Feed) -> bool:
        return feed in self._nodes

    async def serve(self, feed: Feed) -> None:
        """Bring a feed's blocks to its node, by the one before it or from here."""
        node = self._nodes[feed]
        parent = node.parent
        if parent is not None and not await self._listen(node, parent):
            parent = node.parent = None
        if node.child is not None:
            await self._connect(node, node.child)
        self._settle(node)
        if parent is None:
            # What left us before the last link is made would go by those behind it, and be sent from here a second
            # time. Who fails to link within its own bounds settles too, so that this is a bound, and no hope.
            await _within(2 * SETUP_S, self._complete.wait)
            await self._send(feed, feed.reached)
        else:
            await self._watch(node, parent)
            await self._send(feed, feed.asked_from)

    def leave(self, feed: Feed) -> None:
        """Take a feed out, however its push ended: the one behind it must not wait for what will not come."""
        node = self._nodes[feed]
        node.placed.set()  # or the one before it would wait for a place until its time is over
        self._settle(node)
        # One that has all of its blocks has passed them on as well: its threads send what is still queued.
        if node.child is not None and not node.child.feed.over and not feed.done:
            node.child.feed.order_leave()

    async def _listen(self, node: RelayNode, parent: RelayNode) -> bool:
        """Make a node listen for its parent; False if it cannot."""
        feed = node.feed
        try:
            feed.order_listen(node.identity.pem, parent.identity.certificate)
            node.place = await _within(SETUP_S, feed.listening)
        finally:
            node.placed.set()
        if node.place is None:
            feed.direct_because = feed.trouble or "it did not listen"
        return node.place is not None

    async def _connect(self, node: RelayNode, child: RelayNode) -> None:
        """Make a node reach its child; the child is told if it cannot."""
        await child.placed.wait()
        if child.place is None or child.feed.over:
            return
        node.feed.order_connect(child.feed.node.name, child.place, node.identity.pem, child.identity.certificate)
        if not await _within(SETUP_S, node.feed.linked):
            child.feed.direct_because = f"{node.feed.node.name} did not reach it"
            child.feed.order_leave()

    def _settle(self, node: RelayNode) -> None:
        """Note that a node has its link, or will have none; at the last one the chain is complete."""
        if not node.settled:
            node.settled = True
            self._unsettled -= 1
            if not self._unsettled:
                self._complete.set()

    async def _watch(self, node: RelayNode, parent: RelayNode) -> None:
        """Wait until a node with a parent asks for the rest; see to it that one which is stalled does.

        Only the node knows which block it lacks, so it is never sent one before it has asked: the same block from both
        sides would cost our uplink what the chain is there to save.
        """
        feed = node.feed
        reached, waited = feed.reached, 0.0
        while not feed.asked.is_set():
            # Looks are counted, not hours: time in which we slept ourselves is nobody's fault.
            with anyio.move_on_after(LOOK_S):
                await feed.asked.wait()
            reached, waited = (feed.reached, 0.0) if feed.reached > reached else (reached, waited + LOOK_S)
            if waited > self._stall_s and not feed.direct_because:
                feed.direct_because = f"nothing came from {parent.feed.node.name} for {waited:.1f} s"
                feed.order_leave()
        node.parent = None

    @property
    def _stall_s(self) -> float:
        """Seconds without a block after which something is wrong, by what our own uplink has shown so far."""
        return max(STALL_S, STALL_BLOCKS * self._sending_s / self._sent) if self._sent else FIRST_BLOCK_S

    async def _send(self, feed: Feed, first: int) -> None:
        for number in range(first, len(feed.blocks)):
            await self._announce(number)
            began = time.monotonic()
            await feed.send_block(number)
            self._sent += 1
            self._sending_s += time.monotonic() - began

    async def _announce(self, number: int) -> None:
        """Tell all that have a parent the digests of blocks up to this one.

        Before anybody gets the block: a node keeps what it cannot verify waiting, and with it all that comes behind.
        """
        async with self._announcing:  # the digests of a block are worked out once, and go out in order
            while self._announced <= number:
                first = self._announced
                after = min(first + ANNOUNCED, len(self._blocks))
                proofs = [await self._bundle.proof(self._blocks[each]) for each in range(first, after)]
                for node in self._nodes.values():
                    if not node.feed.over and node.parent is not None:
                        node.feed.send_proofs(first, proofs)
                self._announced = after


async def _within(limit_s: float, wait: Callable[[], Awaitable[T]]) -> T | None:
    with anyio.move_on_after(limit_s):
        return await wait()
    return None
