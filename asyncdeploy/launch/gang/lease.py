"""Who watches over a launch and would start it again says so on its nodes, for those who watch it from elsewhere.

They know of no Restart: what they see is a launch that failed. A lease in its folder on the nodes, renewed for as long
as somebody watches who has the Restart, tells them to wait for what that one decides. It runs out when he dies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.gang.recall import ask_folder, recall_launch
from asyncdeploy.launch.gang.restart import Recovery
from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Noted

RENEW_S = 20.0
"""A lease lasts for 90 s (node_side/launch/launch_folder.py): three may fail."""
HOLDERS = 3
"""Nodes that have it while the launch runs: one of them may be what is lost. During a restart all have it."""
TELL_S = 5.0
"""A node that does not take it by then goes without."""
LET_GO_S = 0.4
"""The same behind a watch that was cancelled; a lease that stays runs out."""
LOOK_S = 1.0
MOST_S = 3600.0
"""For somebody who watches elsewhere and lives: a node that says so for ever is not believed."""


@asynccontextmanager
async def watching(pool: Pool, launch: Launch) -> AsyncIterator[None]:
    """Hold the lease of an attempt while it is watched, and until it is known whether another one follows."""
    recovery = launch.attempts
    if not isinstance(recovery, Recovery):
        yield
        return
    recovery.watching += 1
    renewing = asyncio.create_task(_renew(pool, launch), name=f"lease {launch.id}")
    try:
        yield
    finally:
        recovery.watching -= 1
        renewing.cancel()
        await finish(_let_go(pool, launch, recovery, renewing), LET_GO_S)


async def hold(pool: Pool, nodes: Sequence[Node], launch: Launch) -> None:
    """Have nodes write down that somebody watches who may start a launch again; one that is away goes without."""
    await _tell(pool, nodes, launch, "watch")


async def attempt_elsewhere(pool: Pool, failed: Launch) -> Launch | None:
    """Return the attempt that somebody else started behind one that failed; None where nobody has, or will.

    Args:
        pool: the connections.
        failed: an attempt of which nothing runs any more.
    """
    noted, began = False, time.monotonic()
    while (said := await _said(pool, failed)) == b"watched" and time.monotonic() - began < MOST_S:
        if not noted:
            _note(pool, failed, f"{failed.id} has failed, and who watches it elsewhere may start it again: waiting")
            noted = True
        await anyio.sleep(LOOK_S)
    if not said:
        return None
    try:
        launch = await recall_launch(pool, failed.nodes, failed.id, at_most_s=TELL_S)
    except DeployError as error:
        _note(pool, failed, f"{failed.id} was started again, and cannot be watched from here: {error.message}")
        return None
    return launch if launch.id != failed.id else None


async def _renew(pool: Pool, launch: Launch) -> None:
    while True:
        recovery = launch.attempts
        restarts = isinstance(recovery, Recovery) and recovery.turn.locked()
        await hold(pool, launch.nodes if restarts else launch.nodes[:HOLDERS], launch)
        await anyio.sleep(RENEW_S)


async def _let_go(pool: Pool, launch: Launch, recovery: Recovery, renewing: asyncio.Task[None]) -> None:
    await asyncio.wait([renewing])
    if not recovery.watching:
        await _tell(pool, launch.nodes if launch.current.id != launch.id else launch.nodes[:HOLDERS], launch, "leave")


async def _tell(pool: Pool, nodes: Sequence[Node], launch: Launch, word: str) -> None:
    await map_nodes(
        nodes, lambda node: ask_folder(pool.at(node), word, launch.id), at_once=CALLS_AT_ONCE, at_most_s=TELL_S
    )


async def _said(pool: Pool, launch: Launch) -> bytes:
    """Return "watched" if a node says that somebody does, or else the id of what followed; nothing where none knows."""
    report = await map_nodes(
        launch.nodes[:HOLDERS], lambda node: ask_folder(pool.at(node), "ahead", launch.id), at_most_s=TELL_S
    )
    answers = list(report.values)
    return b"watched" if b"watched" in answers else next(filter(None, answers), b"")


def _note(pool: Pool, launch: Launch, text: str) -> None:
    node = launch.nodes[0]
    pool.at(node).emit(Noted(node=node.name, text=text))
