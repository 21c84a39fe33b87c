"""The high level: many nodes at once, from bare to a running job and its results. Each function is a short composition.

Everywhere a str, a Node or several of them are nodes, a path is a workspace; ``pool=None`` opens a Pool for the call.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import attrs

from asyncdeploy.command import Command, Completed, as_command
from asyncdeploy.deploy import Deployment, by_node, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs import Env, UvEnv
from asyncdeploy.errors import AuthError, DeployError, HostKeyError, LaunchFailed
from asyncdeploy.follow import LaunchFollower
from asyncdeploy.job import Job, JobStatus
from asyncdeploy.launch import launch_failed, recall_launch, start_launch
from asyncdeploy.launch_data import Launch
from asyncdeploy.nodes import Node, parse_nodes
from asyncdeploy.parallel import map_nodes
from asyncdeploy.placement import Launcher
from asyncdeploy.pool import Pool
from asyncdeploy.push import pack_workspace, push_code
from asyncdeploy.rank_start import log_folder
from asyncdeploy.relay import Crew, Relay
from asyncdeploy.report import Report
from asyncdeploy.run import run_command
from asyncdeploy.sync import sync_results
from asyncdeploy.sync_job import sync_while_running
from asyncdeploy.sync_listing import CollectLimits
from asyncdeploy.watch import end_launch, watch_launch
from asyncdeploy.workspace import Collected, Site, Workspace, as_workspace, check_remote_path

AT_ONCE = 32
"""Nodes worked on at a time: enough to fill a client's line, few enough to be kind to a login node."""
DEFAULT_ENV = UvEnv()
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
    async with _lent(pool) as lent, _crew(fleet, workspace, relay, at_once) as crew:
        return await map_nodes(fleet, lambda node: push_code(lent.at(node), crew), at_once=at_once)


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
    async with _lent(pool) as lent, _crew(fleet, workspace, relay, at_once) as crew:

        async def work(node: Node) -> Deployment:
            try:
                return await deploy_project(lent, node, crew, env)
            finally:
                crew.gone(node.name)

        return await map_nodes(fleet, work, at_once=at_once)


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
    async with _lent(pool) as lent:
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
    async with _lent(pool) as lent, _crew(fleet, workspace, "auto", at_once) as crew:

        async def work(node: Node) -> Completed:
            try:
                deployment = await deploy_project(lent, node, crew, env)
            finally:
                crew.gone(node.name)
            return await run_in_project(lent, deployment, _asked(command, node))

        return (await map_nodes(fleet, work, at_once=at_once)).judged()


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

    async with _lent(pool) as lent:
        return (await map_nodes(tuple(ready), work, at_once=at_once)).judged()


async def fan_out(
    nodes: Nodes,
    workspace: Code,
    launcher: Launcher,
    env: Env = DEFAULT_ENV,
    *,
    relay: Relay = "auto",
    grace_s: float = 5.0,
    pool: Pool | None = None,
) -> Launch:
    """Deploy to all nodes, then start one rank a node, detached: all of them or none.

    Args:
        nodes: in node rank order.
        workspace: what to push.
        launcher: what to run: a Torchrun.
        env: how a node becomes able to run it.
        relay: as for ``push_all``.
        grace_s: seconds from TERM to KILL whenever the launch is stopped.
        pool: the connections.

    Raises:
        LaunchFailed: a node could not be deployed to or started; nothing of the launch runs anywhere.
        PreflightFailed: the nodes cannot run it together.

    On cancellation nothing of the launch stays running.
    """
    async with _lent(pool) as lent:
        deployed = await deploy_all(nodes, workspace, env, relay=relay, pool=lent)
        if not deployed.ok:
            raise _not_deployed(deployed)
        return await start_launch(lent, deployed.unwrap(), launcher, grace_s=grace_s)


async def wait_launch(launch: Launch, *, pool: Pool | None = None) -> Report[JobStatus]:
    """Wait until all ranks have ended; when one fails the others are stopped, and the report names it as the cause.

    On cancellation the launch is left as it is.
    """
    async with _lent(pool) as lent:
        return await watch_launch(lent, launch)


async def stop_launch(launch: Launch, *, grace_s: float | None = None, pool: Pool | None = None) -> Report[JobStatus]:
    """Stop all ranks; within the grace (None: the launch's own) and 5 s more nothing lives."""
    async with _lent(pool) as lent:
        return await end_launch(lent, launch, grace_s)


@asynccontextmanager
async def follow_launch(
    launch: Launch, *, offsets: Sequence[int] = (), fold_s: float | None = None, pool: Pool | None = None
) -> AsyncIterator[LaunchFollower]:
    """Give the lines of all ranks as they come and watch over the launch; they end when it has ended.

    Args:
        launch: the launch.
        offsets: of an earlier follower, to go on behind the last line that it gave; none is from the beginning.
        fold_s: lines that several nodes print alike within so many seconds are given as one; None folds nothing.
        pool: the connections.

    ``report`` and ``failure`` of what is given say how it ended. Leaving the block early leaves the launch as it is.
    """
    async with _lent(pool) as lent, LaunchFollower(lent, launch, offsets=offsets, fold_s=fold_s) as follower:
        yield follower


async def find_launch(nodes: Nodes, launch_id: str, *, pool: Pool | None = None) -> Launch:
    """Return a launch by its id and nodes, on any machine; it is enough that one of them answers.

    Raises:
        LaunchFailed: no node remembers it, they disagree, or it has a node that is not named here.
    """
    fleet = parse_nodes(nodes)
    async with _lent(pool) as lent:
        return await recall_launch(lent, fleet, launch_id)


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

    async with _lent(pool) as lent:
        # Whoever waits for a job to end takes nothing from the others.
        return await map_nodes(tuple(sources), work, at_once=at_once if every_s is None else max(1, len(sources)))


async def collect_logs(
    launch: Launch,
    target: Path | str,
    *,
    at_once: int = AT_ONCE,
    limits: CollectLimits | None = None,
    pool: Pool | None = None,
) -> Report[Collected]:
    """Bring the logs of every rank home, into ``target/<node_rank>-<name>/``; of a launch that runs, what there is.

    A rank's ``stdout.log`` and ``stderr.log`` stand in a folder of its local rank's number (where torchrun runs, below
    two of its own), those of a command that is run once a node beside it.
    """
    folders = {job.node: (rank, log_folder(launch.id, rank)) for rank, job in enumerate(launch.jobs)}

    async def work(node: Node) -> Collected:
        rank, folder = folders[node]
        return await sync_results(lent.at(node), folder, Path(target) / f"{rank}-{node.name}", limits=limits)

    async with _lent(pool) as lent:
        return await map_nodes(launch.nodes, work, at_once=at_once)


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

    async with _lent(pool) as lent:
        return await map_nodes(fleet, work, at_once=at_once)


@asynccontextmanager
async def _lent(pool: Pool | None) -> AsyncIterator[Pool]:
    """Give the pool that was lent, or one for this call."""
    if pool is not None:
        yield pool
    else:
        async with Pool() as own:
            yield own


@asynccontextmanager
async def _crew(fleet: Sequence[Node], code: Code, relay: Relay, at_once: int) -> AsyncIterator[Crew]:
    """Give a workspace made ready for a fleet."""
    if relay not in ("auto", "on", "off"):
        raise ValueError(f"relay: 'auto', 'on' or 'off' was expected, got {relay!r}")
    async with pack_workspace(as_workspace(code)) as bundle:
        yield Crew(bundle, relay, [node.name for node in fleet], at_once)


def _asked(command: Asked, node: Node) -> Command:
    return as_command(command if isinstance(command, Command | str) else command(node))


def _below(folder: str, source: str) -> str:
    return source if source.startswith(("/", "~")) else f"{folder.rstrip('/')}/{source}"


def _not_deployed(report: Report[Deployment]) -> LaunchFailed:
    outcome = report.failures[0]
    cause = outcome.error or DeployError(outcome.node.name, f"ended as {outcome.state}")
    rank = [seen.node for seen in report].index(outcome.node)
    error = launch_failed(cause, "is not ready, nothing was started", node_rank=rank)
    rest = tuple(f"{seen.node.name}: {seen.error.message}" for seen in report.failures[1:] if seen.error is not None)
    error = attrs.evolve(error, consequences=rest)
    error.__cause__ = cause
    return error
