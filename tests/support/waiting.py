"""Wait for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.beds.keeper import is_zombie

T = TypeVar("T")

# A busy two-core machine is given this long; a condition that holds earlier is seen at once.
PATIENCE_S = 30.0
LOOK_S = 0.01
# Every call is back within 5 s of a cancellation; a busy machine is given this long.
BACK_S = 15.0


async def eventually(condition: Callable[[], T], what: str = "", *, within_s: float = PATIENCE_S) -> T:
    """Return the condition's first true value; AssertionError, naming `what`, if none comes in time."""
    __tracebackhide__ = True
    end = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end, f"never true within {within_s} s: {what or condition}"
        await asyncio.sleep(LOOK_S)
    return value


def eventually_sync(condition: Callable[[], T], what: str = "", *, within_s: float = PATIENCE_S) -> T:
    """As `eventually`, where no loop runs."""
    __tracebackhide__ = True
    end = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end, f"never true within {within_s} s: {what or condition}"
        time.sleep(LOOK_S)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie has ended."""
    return not is_zombie(pid)


class Lag:
    """How long the loop kept others from their turn, at most."""

    def __init__(self) -> None:
        self.most = 0.0

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.most = max(self.most, time.monotonic() - before)
