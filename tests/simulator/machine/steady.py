"""What the client code asks the machine for, answered by the simulation: the time, chance, and threads.

No module of the house is replaced: where one of them has `time`, `random` or `secrets` among its names, it finds these
instead while a story is played. What runs outside a story finds the real ones, so that other tests are not touched.
"""

from __future__ import annotations

import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio._backends._asyncio import CancelScope

import asyncdeploy
from tests.simulator.machine.loop import SimLoop

BEGAN = 1_800_000_000.0
"""Seconds since 1970 when each story begins, by the client's clock."""


class Clock:
    """The module `time`, by a loop's clock; its wall clock may jump."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.jumped_s = 0.0

    def monotonic(self) -> float:
        return self._loop.now + 1000.0

    perf_counter = monotonic

    def time(self) -> float:
        return self._loop.now + BEGAN + self.jumped_s

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def sleep(self, seconds: float) -> None:
        """Threads run whole at one point of time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Secrets:
    """The module `secrets`, by the seed's chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.choice = chance.choice
        self.randbelow = chance.randrange

    def token_bytes(self, count: int = 32) -> bytes:
        return self._chance.randbytes(count)

    def token_hex(self, count: int = 32) -> str:
        return self.token_bytes(count).hex()

    def token_urlsafe(self, count: int = 32) -> str:
        return self.token_hex(count)


for _name in asyncdeploy.__all__:  # what is imported during a story would find the real ones
    getattr(asyncdeploy, _name)


@contextmanager
def steady(loop: SimLoop, chance: random.Random) -> Iterator[Clock]:
    """Let the client's code find this loop's time, this seed's chance and threads without threads in a block."""
    clock = Clock(loop)
    instead = {id(time): clock, id(random): chance, id(secrets): Secrets(chance), id(time.monotonic): clock.monotonic}
    changed: list[tuple[Any, str, Any]] = []
    for name, module in tuple(sys.modules.items()):
        if not name.startswith("asyncdeploy.") or name.startswith("asyncdeploy.node_side"):
            continue
        for key, value in tuple(vars(module).items()):
            if id(value) in instead:
                changed.append((module, key, value))
                setattr(module, key, instead[id(value)])
    # anyio cancels a scope's inner ones in the order of a set, which is that of their addresses.
    changed.append((CancelScope, "__hash__", CancelScope.__hash__))
    CancelScope.__hash__ = lambda scope: getattr(scope._host_task, "number", 0)  # type: ignore[method-assign]
    threads = sys.modules["asyncdeploy.tasks.threads"]
    changed.append((threads, "hand_over", threads.hand_over))
    threads.hand_over = _hand_over(loop)  # type: ignore[attr-defined]
    try:
        yield clock
    finally:
        for module, key, value in changed:
            setattr(module, key, value)


def _hand_over(loop: SimLoop) -> Callable[[Callable[[], Callable[[], object]]], None]:
    """Return who does the work of threads: whole, at a moment that the seed chooses, and its end a moment later."""

    def hand_over(work: Callable[[], Callable[[], object]]) -> None:
        def run() -> None:
            loop.call_later(loop.chance.random() * 0.002, work())

        loop.call_later(loop.chance.random() * 0.002, run)

    return hand_over
