"""Who of a crew is ready, and how long they wait for the others before something is done with those there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import anyio

from asyncdeploy.push.relay.feed import Feed

GATHER_S = 2.0
"""How long those who are ready wait for the others, at most."""
PATIENCE = 0.5
"""Once half of them are ready, the others have half as much time again..."""
PATIENCE_S = 0.25
"""...and at least this: looking at what a large file's old version is good for takes so long."""


class Gathering:
    """Feeds that wait for each other, group after group: who comes late belongs to the next one.

    Args:
        expected: the names of the nodes that may come.
        at_once: how many of them may be at work at the same time; more cannot be ready together.
        form: is told who waited, when the waiting is over.
    """

    def __init__(self, expected: Iterable[str], at_once: int, form: Callable[[list[Feed]], None]) -> None:
        self._expected = set(expected)
        self._at_once = at_once
        self._form = form
        self._waiting: list[Feed] = []
        self._opened = anyio.Event()
        self._began = time.monotonic()
        self._close_at = float("inf")

    def begin(self) -> None:
        """Measure patience from here: what came before was ours to do, and no node's slowness."""
        self._began = time.monotonic()

    def gone(self, name: str) -> None:
        """One less to wait for: it failed, or has nothing to send, or is over."""
        if name in self._expected:
            self._expected.remove(name)
            self._close_if_complete()

    def withdraw(self, feed: Feed) -> None:
        """Take a feed out that waits no more."""
        if feed in self._waiting:
            self._waiting.remove(feed)
            self.gone(feed.node.name)

    async def join(self, feed: Feed) -> None:
        """Wait until enough are there; ``form`` has been told of this feed then."""
        # The event of this group: by the time we look again, the next group may have one of its own.
        opened = self._opened
        self._waiting.append(feed)
        now = time.monotonic()
        if len(self._waiting) == 1:
            self._close_at = now + GATHER_S
        if len(self._waiting) * 2 >= min(len(self._expected), self._at_once):
            # By now we know how long these machines take: one that is much slower would hold up more than half of all.
            self._close_at = min(self._close_at, now + max(PATIENCE_S, (now - self._began) * PATIENCE))
        self._close_if_complete()
        while not opened.is_set():
            # Each who waits keeps the time, as there is no task of the crew's own; the first to wake closes for all.
            with anyio.move_on_after(max(0.0, self._close_at - time.monotonic())):
                await opened.wait()
            if not opened.is_set() and time.monotonic() >= self._close_at:
                self._close()

    def _close_if_complete(self) -> None:
        if self._waiting and len(self._waiting) >= min(len(self._expected), self._at_once):
            self._close()

    def _close(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._expected.difference_update(feed.node.name for feed in waiting)
        self._form(waiting)
        # Only now, so that whoever wakes finds what was formed.
        opened, self._opened = self._opened, anyio.Event()
        self._began, self._close_at = time.monotonic(), float("inf")
        opened.set()
