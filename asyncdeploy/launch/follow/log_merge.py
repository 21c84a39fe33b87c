"""Lines of many logs in one order: of time while older ones are still being read, of arrival once they are new: Merger.

It waits for nothing but room, and decides by what it was told. No I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import anyio

from asyncdeploy.launch.launch import LaunchLine

ROOM = 200
"""Lines of one log that wait for a slow reader; then its node has to wait, which costs nothing: its log is a file."""
HOLD_S = 5.0
"""How long the others' lines wait for the older ones of a node that does not answer."""


class Merger:
    """Queues of lines, one a log, and the rule by which the next one is taken.

    A log whose older lines have not all come holds the others back, so that none of them is given before an older one;
    a log that is read to its end holds nobody back.

    Args:
        ranks: whose logs.
        now: seconds, by the event loop's clock.
    """

    def __init__(self, ranks: Iterable[int], now: float) -> None:
        self._queues: dict[int, deque[tuple[LaunchLine | None, int]]] = {rank: deque() for rank in ranks}
        self._heard = dict.fromkeys(self._queues, now)
        self._behind = set(self._queues)
        self._printing = set(self._queues)
        self._news, self._room = anyio.Event(), anyio.Event()

    async def put(self, rank: int, line: LaunchLine, end: int) -> None:
        """Take a line, in the order of its log, and the byte at which it ends; waits for room."""
        while len(self._queues[rank]) >= ROOM:
            await self._room.wait()
        self._add(rank, line, end)

    def caught_up(self, rank: int) -> None:
        """All lines of this log that were there when it was read have been put."""
        self._behind.discard(rank)
        self._tell()

    def ended(self, rank: int) -> None:
        """There will be no more of it."""
        if rank in self._printing:
            self._printing.discard(rank)
            self._behind.discard(rank)
            self._add(rank, None, 0)

    def _add(self, rank: int, line: LaunchLine | None, end: int) -> None:
        self._queues[rank].append((line, end))
        self._heard[rank] = anyio.current_time()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def news(self) -> None:
        """Wait until something was put, or some log has caught up or ended."""
        await self._news.wait()

    @property
    def over(self) -> bool:
        """Whether all logs have ended and all of their lines were taken."""
        return not self._printing and not any(self._queues.values())

    def due(self) -> float:
        """Return when ``take`` stops waiting for the log that it waits for; infinity if it waits for news alone."""
        waited = [self._heard[rank] + HOLD_S for rank in self._awaited()]
        return max(waited) if waited and any(self._queues.values()) else float("inf")

    def _awaited(self) -> list[int]:
        return [rank for rank in self._behind if not self._queues[rank]]

    def take(self, now: float) -> tuple[LaunchLine | None, int, int] | None:
        """Return the next line, whose it is and where it ends; a rank without a line has ended; None: wait for news."""
        if any(now < self._heard[rank] + HOLD_S for rank in self._awaited()):
            return None
        heads = [(_time_of(queue[0][0]), rank) for rank, queue in self._queues.items() if queue]
        if not heads:
            return None
        _, rank = min(heads)
        line, end = self._queues[rank].popleft()
        self._heard[rank] = now  # it may have waited for us to take it
        self._room.set()
        self._room = anyio.Event()
        return line, rank, end


def _time_of(line: LaunchLine | None) -> float:
    return line.at if line is not None else 0.0  # an end is taken at once
