"""A trial: how fast our uplink is, found out with a push's first blocks, before nodes are made to help each other."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio

from asyncdeploy.push.relay.chain import LOOK_S, STALL_S, Chain
from asyncdeploy.push.relay.feed import Feed

TRIAL_S = 0.2
"""How long our uplink is looked at before that is decided."""
TRIAL_NODES = 8
"""To how many nodes at a time, a block at a time: what is under way when a chain is formed was sent in vain."""
WORTH_S = 1.0
"""What the rest must take from here for a chain to be worth it: by then its links are made and paid for, anywhere."""


class Trial:
    """Feeds that need the same blocks, while it is found out whether they should pass them on to each other.

    Attributes:
        chain: who does so in the end; None before that, and where nobody does.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.chain: Chain | None = None
        self._feeds = tuple(feeds)
        self._busy = set(feeds[:TRIAL_NODES])  # a block is on its way to them, or will be
        self._began = time.monotonic()
        self._decided = anyio.Event()

    async def run(self, feed: Feed) -> None:
        """Send a block at a time, or wait for those who do, until it is decided."""
        if feed in self._busy:
            try:
                while time.monotonic() - self._began <= TRIAL_S and feed.bytes_left:
                    await feed.send_and_wait(feed.reached)
            finally:
                self._busy.discard(feed)
        while not self._decided.is_set():
            # What is on its way to a node must have arrived before a chain is formed: those behind that node would miss
            # the block, and all of it would be sent twice. Only one that has had far too much time for it is left out.
            if not self._busy or self._is_stuck:
                self._decide()
            with anyio.move_on_after(LOOK_S):
                await self._decided.wait()

    @property
    def _is_stuck(self) -> bool:
        return time.monotonic() - self._began > TRIAL_S + STALL_S

    def _decide(self) -> None:
        """Form a chain of those who still need blocks, if that is worth it; else all are sent theirs from here."""
        self._decided.set()
        rest = [feed for feed in self._feeds if not feed.over and feed.bytes_left and feed not in self._busy]
        # Blocks travel in order, so whoever lacks most must come first: it cannot get from behind what it lacks.
        rest.sort(key=lambda feed: feed.reached)
        if len(rest) > 1 and self._seconds_left() > WORTH_S:
            self.chain = Chain(rest)

    def _seconds_left(self) -> float:
        """Return how long the rest would take from here, by what our uplink has carried so far."""
        arrived = sum(feed.bytes_reached for feed in self._feeds)
        left = sum(feed.bytes_left for feed in self._feeds if not feed.over)
        return left * (time.monotonic() - self._began) / max(arrived, 1)
