"""Take back the ranks of a launch that did not come to be: none stays, and no node remembers it."""

from __future__ import annotations

from collections.abc import Iterable

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.gang.recall import forget_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.parse import Node, fold_names
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import take_back
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.errors import DeployError

UNDO_S = 4.5
"""A start that is cancelled is back within 5 s."""
FORGET_S = 0.4
"""The same, behind a start_job that was cancelled and took up to 4.5 s of them to end what it had begun."""


async def undo_launch(pool: Pool, launch: Launch) -> tuple[Node, ...]:
    """Stop and forget all ranks, started or not, in bounded time; return the nodes that did not confirm it."""
    ranks = launch.ranks
    gone: set[Node] = set()

    async def undo(node: Node) -> None:
        if await undo_rank(pool.at(node), launch, launch.jobs[ranks[node]]):
            gone.add(node)

    await finish(map_nodes(launch.nodes, undo, at_once=len(ranks)), UNDO_S)
    return tuple(node for node in launch.nodes if node not in gone)


def fate_of(left: Iterable[Node]) -> str:
    """Return in words what runs behind an undo that some nodes did not confirm."""
    unsure = fold_names([node.name for node in left])
    return f"it is not confirmed that nothing runs on {unsure}" if unsure else "nothing stays running on any node"


async def undo_rank(remote: Remote, launch: Launch, job: Job) -> bool:
    """Stop and forget one rank; True if the node says that nothing of it lives."""
    try:
        status = await take_back(remote, job)
        await forget_launch(remote, launch.id)
    except DeployError:
        return False
    return status.ended and not status.survivors
