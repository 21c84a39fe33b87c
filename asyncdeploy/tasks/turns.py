"""Much work without a wait, in pieces between which others have their turn."""

from __future__ import annotations

import asyncio
import time

TURN_S = 0.01
"""How long one piece may hold the loop: a cancellation, a timeout and other nodes are felt within a tenth of a second,
also when ten nodes have as much to do."""
LOOK_EVERY = 64
"""Small steps between two looks at the clock."""


class Turns:
    """Counts steps of work that does not wait: ``if turns.over(): await turns.next()`` after each."""

    __slots__ = ("_began", "_steps")

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps = 0

    def over(self, steps: int = 1) -> bool:
        """Count steps; return whether others should have their turn now."""
        self._steps += steps
        if self._steps < LOOK_EVERY:
            return False
        self._steps = 0
        return time.monotonic() - self._began > TURN_S

    async def next(self) -> None:
        """Let all others that are ready have theirs."""
        await asyncio.sleep(0)
        self._began = time.monotonic()
