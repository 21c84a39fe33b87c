"""Workers that are opened ahead of the calls that will need them: each costs two round trips and a Python's start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from asyncdeploy.remote.interpreter import open_spare_worker
from asyncdeploy.remote.transport import Remote
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.values.errors import DeployError

Begin = Callable[[Remote, int], None]
"""Begin to open so many workers on a node whose python3 is known, once a connection, for whoever calls next."""


@asynccontextmanager
async def opening_ahead() -> AsyncIterator[Begin]:
    """Give what begins to open workers beside other work; what is not open at the block's end is given up.

    It is a favour and no more: one that cannot be opened is an error only to whoever needs it.
    """
    tasks = set[asyncio.Task[None]]()

    def begin(remote: Remote, count: int) -> None:
        if not remote.memory.setdefault("opened ahead", False):
            remote.memory["opened ahead"] = True
            tasks.update(asyncio.create_task(_open(remote)) for _ in range(count))

    try:
        yield begin
    finally:
        if late := {task for task in tasks if task.cancel()}:
            await finish(asyncio.wait(late), BACK_S)


async def _open(remote: Remote) -> None:
    with suppress(DeployError):
        await open_spare_worker(remote)
