"""A command on many nodes: who runs one pays for the import of no push, environment or job."""

from __future__ import annotations

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.arguments import Asked, Nodes, commands_of, lent_pool
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Completed


@checked
async def run_all(
    nodes: Nodes,
    command: Asked,
    *,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Completed]:
    """Run a command on all nodes, in the login's home; a status but 0 is a failure, with the Completed inside.

    Args:
        nodes: the nodes.
        command: a Command, a shell line, or a callable that gives one for each node.
        at_once: how many run at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    Raises:
        ValueError: one command for several nodes has a stdout_to or stderr_to: all would write the same file.

    On cancellation the runs are ended.
    """
    fleet = parse_nodes(nodes)
    commands = commands_of(fleet, command)
    async with lent_pool(pool) as lent:

        async def work(node: Node) -> Completed:
            return await run_command(lent.at(node), commands[node])

        return await map_nodes(fleet, work, at_once=at_once, at_most_s=at_most_s, judged=True)
