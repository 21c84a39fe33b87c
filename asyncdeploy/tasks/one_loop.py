"""What belongs to one event loop says so when it is used in another, where it would wait for ever."""

from __future__ import annotations

import asyncio


class OneLoop:
    """The event loop that something belongs to: the one in which it was used first.

    Args:
        what: it, in an error ("this Pool").
        instead: what to do where another loop runs.
    """

    __slots__ = ("_instead", "_loop", "_what")

    def __init__(self, what: str, instead: str) -> None:
        self._what = what
        self._instead = instead
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Take note of the running loop the first time; raise RuntimeError if it is another one later."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            over = "one that has ended" if self._loop.is_closed() else "another one"
            raise RuntimeError(
                f"{self._what} belongs to the event loop that it was used in first, {over}; {self._instead}"
            )
