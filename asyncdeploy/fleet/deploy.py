"""The high level: many nodes at once, from bare to a running job and its results. Each function is a short composition.

Everywhere a str, a Node or several of them are nodes, a path is a workspace; ``pool=None`` opens a Pool for the call.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.listing import CollectLimits
from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, by_node, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs import Env, UvEnv
from asyncdeploy.fleet.sync_job import sync_while_running
from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.push.bundle.bundle import begin_packing
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.crew import Crew, Relay
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job
from asyncdeploy.values.command import Command, Completed, as_command
from asyncdeploy.values.errors import AuthError, DeployError, HostKeyError
from asyncdeploy.values.workspace import Collected, Site, Workspace, as_workspace, check_remote_path

AT_ONCE = 32
"""Nodes worked on at a time: enough to fill a client's line, few enough to be kind to a login node."""
DEFAULT_ENV: Env = UvEnv()
READY_LOOK_S = 2.0
"""Between two tries to reach a node that boots."""

Nodes = str | Node | Iterable[str | Node]
Code = Workspace | Path | str
Asked = Command | str | Callable[[Node], Command | str]

T = TypeVar("T")


async def push_all(
    nodes: Nodes, workspace: Code, *, relay: Relay = "auto", at_once: int = AT_ONCE, pool: Pool | None = None
) -> Report[Site]:
    """Push a workspace to all nodes; it is scanned, hashed and packed once, and large ones are uploaded about once.

    Args:
        nodes: the nodes.
        workspace: what to push.
        relay: "auto" lets nodes that are pushed to at the same time pass large amounts on to each other, over TLS of
            this run's own; "on" does so whatever the amount; "off" sends everything from here. A node that others
            cannot reach is sent everything from here.
        at_once: how many nodes are worked on at a time.
        pool: the connections.

    On cancellation what was sent waits on the nodes for the next try; nothing half-done has a final name.
    """
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:

        async def work(node: Node, crew: Crew) -> Site:
            return await push_code(lent.at(node), crew)

        return await _with_crew(fleet, workspace, relay, at_once, work)


async def deploy_all(
    nodes: Nodes,
    workspace: Code,
    env: Env = DEFAULT_ENV,
    *,
    relay: Relay = "auto",
    at_once: int = AT_ONCE,
    pool: Pool | None = None,
) -> Report[Deployment]:
    """Push a workspace to all nodes and make its environment there; a node goes on as soon as its own push is done.

    Args:
        nodes: the nodes.
        workspace: what to push.
        env: how a node becomes able to run it.
        relay: as for ``push_all``.
        at_once: how many nodes are worked on at a time.
        pool: the connections.
    """
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:

        async def work(node: Node, crew: Crew) -> Deployment:
            return await deploy_project(lent, node, crew, env)

        return await _with_crew(fleet, workspace, relay, at_once, work)


async def run_all(
    nodes: Nodes, command: Asked, *, at_once: int = AT_ONCE, pool: Pool | None = None
) -> Report[Completed]:
    """Run a command on all nodes, in the login's home; one that does not exit 0 is a failure with its Completed inside.

    Args:
        nodes: the nodes.
        command: a Command, a shell line, or a callable that gives one for each node.
        at_once: how many run at a time.
        pool: the connections.

    On cancellation the runs are ended.
    """
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:
        report = await map_nodes(fleet, lambda node: run_command(lent.at(node), _asked(command, node)), at_once=at_once)
        return report.judged()


async def deploy_and_run(
    nodes: Nodes,
    workspace: Code,
    command: Asked,
    env: Env = DEFAULT_ENV,
    *,
    at_once: int = AT_ONCE,
    pool: Pool | None = None,
) -> Report[Completed]:
    """Push, make the environment and run a command in the project's folder, each node as soon as it is ready.

    On cancellation the runs are ended.
    """
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:

        async def work(node: Node, crew: Crew) -> Completed:
            deployment = await deploy_project(lent, node, crew, env)
            return await run_in_project(lent, deployment, _asked(command, node))

        return (await _with_crew(fleet, workspace, "auto", at_once, work)).judged()


async def start_all(
    deployments: Iterable[Deployment],
    command: Asked,
    *,
    name: str,
    at_once: int = AT_ONCE,
    pool: Pool | None = None,
) -> Report[Job]:
    """Start a detached job in each deployment's project folder.

    On cancellation nothing that was not reported stays running.
    """
    ready = by_node(deployments)

    async def work(node: Node) -> Job:
        return await start_in_project(lent, ready[node], _asked(command, node), name=name)

    async with lent_pool(pool) as lent:
        return (await map_nodes(tuple(ready), work, at_once=at_once)).judged()


async def collect_all(
    deployments: Iterable[Deployment] | Launch,
    source: str,
    target: Path | str,
    *,
    at_once: int = AT_ONCE,
    limits: CollectLimits | None = None,
    every_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Collected]:
    """Bring a folder or file home from every node, into ``target/<node_rank>-<name>/``.

    Args:
        deployments: deployments, or a launch.
        source: relative to the project's folder on the node, absolute, or "~/...".
        target: a local folder.
        at_once: how many nodes send at a time.
        limits: what of it comes, and bounds on what each node may send.
        every_s: of a launch, seconds between two collects while it runs; the last one begins when it has ended.
        pool: the connections.

    Returns:
        What came from each node. A node whose results came in part is ok; ``Collected.complete`` tells.

    Raises:
        ValueError: the source leads out of the project's folder, two deployments are of one node, or there is no launch
            to collect from while it runs.

    On cancellation what is complete stays; nothing partial has a final name.
    """
    jobs: dict[Node, Job] = {}
    if isinstance(deployments, Launch):
        deployments = deployments.current
        jobs = {job.node: job for job in deployments.jobs}
        folders = dict(zip(jobs, deployments.workdirs, strict=True))
    else:
        folders = {node: deployment.site.workdir for node, deployment in by_node(deployments).items()}
    if every_s is not None and (not jobs or every_s <= 0):
        raise ValueError(f"collect_all every_s: a launch and a number of seconds were expected, got {every_s!r}")
    sources = {node: _below(folder, source) for node, folder in folders.items()}
    for path in sources.values():
        check_remote_path(path, "collect_all source")
    targets = {node: Path(target) / f"{rank}-{node.name}" for rank, node in enumerate(sources)}
    limiter = anyio.CapacityLimiter(at_once)

    async def work(node: Node) -> Collected:
        async def collect() -> Collected:
            async with limiter:
                return await sync_results(lent.at(node), sources[node], targets[node], limits=limits)

        if every_s is None:
            return await collect()
        return await sync_while_running(lent.at(node), jobs[node], collect, every_s=every_s)

    async with lent_pool(pool) as lent:
        # Whoever waits for a job to end takes nothing from the others.
        return await map_nodes(tuple(sources), work, at_once=at_once if every_s is None else max(1, len(sources)))


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


@asynccontextmanager
async def lent_pool(pool: Pool | None) -> AsyncIterator[Pool]:
    """Give the pool that was lent, or one for this call."""
    if pool is not None:
        yield pool
    else:
        async with Pool() as own:
            yield own


async def _with_crew(
    fleet: Sequence[Node], code: Code, relay: Relay, at_once: int, work: Callable[[Node, Crew], Awaitable[T]]
) -> Report[T]:
    """Do the work of each node, which may connect while the workspace is scanned; a failed scan ends all of it."""
    if relay not in ("auto", "on", "off"):
        raise ValueError(f"relay: 'auto', 'on' or 'off' was expected, got {relay!r}")
    async with begin_packing(as_workspace(code)) as scan:
        crew = Crew(scan, relay, [node.name for node in fleet], at_once)

        async def one(node: Node) -> T:
            try:
                return await work(node, crew)
            finally:
                crew.gone(node.name)

        with anyio.CancelScope() as scope:
            scan.add_done_callback(lambda done: scope.cancel() if done.exception() else None)
            return await map_nodes(fleet, one, at_once=at_once)
        scan.result()
        raise AssertionError("only a failed scan ends the work")


def _asked(command: Asked, node: Node) -> Command:
    return as_command(command if isinstance(command, Command | str) else command(node))


def _below(folder: str, source: str) -> str:
    return source if source.startswith(("/", "~")) else f"{folder.rstrip('/')}/{source}"
