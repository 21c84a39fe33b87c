"""Disk work in portions: a thread cannot be cancelled, so it is asked for a little at a time."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TypeVar

from asyncdeploy.tasks.threads import run_in_thread

T = TypeVar("T")

PORTION_S = 0.2
"""After so long we look whether the work should go on: far below the 5 s in which a cancelled call must be back."""


async def in_portions(work: Generator[None, None, T]) -> T:
    """Do disk work in a thread, and return what it returns.

    On cancellation, which is felt between two portions, nothing of it runs on.
    """

    def some() -> list[T]:
        end = time.monotonic() + PORTION_S
        while time.monotonic() < end:
            try:
                next(work)
            except StopIteration as done:
                return [done.value]
        return []

    try:
        while not (found := await run_in_thread(some)):
            pass
        return found[0]
    finally:
        work.close()
