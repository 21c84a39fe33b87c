"""Commands and jobs on many nodes, and waiting until they can be reached."""

from __future__ import annotations

import time
from collections.abc import Iterable

import anyio

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, by_node, start_in_project
from asyncdeploy.fleet.arguments import Asked, Nodes, commands_of, lent_pool
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import AuthError, DeployError, HostKeyError

READY_LOOK_S = 2.0
"""Between two tries to reach a node that boots."""


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


async def start_all(
    deployments: Iterable[Deployment],
    command: Asked,
    *,
    name: str,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Job]:
    """Start a detached job in each deployment's project folder.

    Args:
        deployments: what stands on the nodes.
        command: a Command, a shell line, or a callable that gives one for each node.
        name: what people call the jobs.
        at_once: how many are started at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    On cancellation nothing that was not reported stays running.
    """
    ready = by_node(deployments)
    commands = commands_of(tuple(ready), command)

    async def work(node: Node) -> Job:
        return await start_in_project(lent, ready[node], commands[node], name=name)

    async with lent_pool(pool) as lent:
        return await map_nodes(tuple(ready), work, at_once=at_once, at_most_s=at_most_s, judged=True)


async def wait_ready(
    nodes: Nodes, *, timeout_s: float, at_once: int = AT_ONCE, pool: Pool | None = None
) -> Report[None]:
    """Wait until each node lets us in and runs a command: for freshly booted machines.

    Args:
        nodes: the nodes.
        timeout_s: seconds until a node that did not is a failure, with what it said at last.
        at_once: how many are asked at a time.
        pool: the connections.

    An unknown or changed host key and a refused login are failures at once: waiting does not mend them.
    """
    fleet, end = parse_nodes(nodes), time.monotonic() + timeout_s

    async def work(node: Node) -> None:
        while True:
            try:
                (await run_command(lent.at(node), Command("true"))).check()
                return
            except (AuthError, HostKeyError):
                raise
            except DeployError:
                if time.monotonic() + READY_LOOK_S > end:
                    raise
            await anyio.sleep(READY_LOOK_S)

    async with lent_pool(pool) as lent:
        return await map_nodes(fleet, work, at_once=at_once)
