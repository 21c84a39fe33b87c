"""Commands and jobs on many nodes."""

from __future__ import annotations

from collections.abc import Iterable

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, by_node, start_in_project
from asyncdeploy.fleet.arguments import Asked, Nodes, commands_of, lent_pool
from asyncdeploy.fleet.jobs import JobSet
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job, check_job_name
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


@checked
async def start_all(
    deployments: Iterable[Deployment],
    command: Asked,
    *,
    name: str,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> JobSet:
    """Start a detached job in each deployment's project folder.

    Args:
        deployments: what stands on the nodes.
        command: a Command, a shell line, or a callable that gives one for each node.
        name: what people call the jobs.
        at_once: how many are started at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    Returns:
        What became of each start, a Report, and the jobs as one thing: ``await jobs.status()``, ``jobs.wait()``,
        ``jobs.stop()``, ``jobs.follow()``.

    Raises:
        ValueError: no job can be called so, or two deployments are of one node.

    On cancellation nothing that was not reported stays running.
    """
    check_job_name(name)
    ready = by_node(deployments)
    commands = commands_of(tuple(ready), command)

    async def work(node: Node) -> Job:
        return await start_in_project(lent, ready[node], commands[node], name=name)

    async with lent_pool(pool) as lent:
        report = await map_nodes(tuple(ready), work, at_once=at_once, at_most_s=at_most_s, judged=True)
    return JobSet(report.outcomes)
