"""Results of many nodes, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import anyio
import attrs

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.source import find_source
from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, by_node
from asyncdeploy.fleet.arguments import lent_pool
from asyncdeploy.fleet.home import Home
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.rank_env import log_folder
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import Report
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import wait_job
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import ConnectError, ConnectionLost, TransferFailed
from asyncdeploy.values.events import Noted
from asyncdeploy.values.workspace import Collected


@checked
async def collect_all(
    deployments: Iterable[Deployment] | Launch,
    source: str,
    target: Path | str,
    *,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    limits: CollectLimits | None = None,
    every_s: float | None = None,
    allow_partial: bool = False,
    pool: Pool | None = None,
) -> Report[Collected]:
    """Bring a folder or file home from every node, all that was asked for, into ``target/<node_rank>-<name>/``.

    Args:
        deployments: deployments, or a launch.
        source: relative to the project's folder on the node, absolute, or "~/...".
        target: a local folder.
        at_once: how many nodes send at a time.
        at_most_s: a node's own time; one that takes longer is stopped there, and unknown. Not together with every_s.
        limits: what of it comes, and bounds on what each node may send.
        every_s: of a launch, seconds between two collects while it runs; the last one begins when it has ended.
        allow_partial: take what there is; a node whose results came in part is ok, ``Collected.complete`` tells.
        pool: the connections.

    Returns:
        What came from each node. A node of which not all came is failed (CollectIncomplete), with the Collected inside.

    Raises:
        ValueError: the source leads out of the project's folder, two deployments are of one node, or there is no launch
            to collect from while it runs.

    What stands in the target stays; folders of other nodes there, as an earlier launch leaves them, are named in an
    event. On cancellation what is complete stays; nothing partial has a final name.
    """
    jobs, folders = _folders(deployments)
    _check_every(every_s, at_most_s, jobs)
    sources = {node: find_source(source, folder, "collect_all source") for node, folder in folders.items()}
    home = Home(target, tuple(sources))
    limiter = anyio.CapacityLimiter(at_once)

    async def collect(node: Node, partial: bool) -> Collected:
        remote, place = lent.at(node), home.folders[node]
        async with limiter:
            return await sync_results(remote, sources[node], place, limits=limits, allow_partial=partial)

    async def work(node: Node) -> Collected:
        if every_s is None:
            return await collect(node, allow_partial)
        done = await sync_while_running(lent.at(node), jobs[node], lambda: collect(node, True), every_s=every_s)
        return done if allow_partial else done.check()

    async with lent_pool(pool) as lent, home.kept_tidy(lent):
        # Whoever waits for a job to end takes nothing from the others.
        if every_s is not None:
            return await map_nodes(tuple(sources), work, at_once=max(1, len(sources)))
        return await map_nodes(tuple(sources), work, at_once=at_once, at_most_s=at_most_s)


def _folders(deployments: Iterable[Deployment] | Launch) -> tuple[dict[Node, Job], dict[Node, str]]:
    """Return the jobs of a launch, and the folder in which each node's project stands."""
    if not isinstance(deployments, Launch):
        return {}, {node: deployment.site.workdir for node, deployment in by_node(deployments).items()}
    launch = deployments.current
    return {job.node: job for job in launch.jobs}, dict(zip(launch.nodes, launch.workdirs, strict=True))


def _check_every(every_s: float | None, at_most_s: float | None, jobs: Mapping[Node, Job]) -> None:
    if every_s is None:
        return
    if at_most_s is not None:
        raise ValueError("collect_all at_most_s: None was expected beside every_s, which goes on until the launch ends")
    if not jobs:
        raise ValueError("collect_all every_s: a launch was expected, got deployments, which do not say when they end")
    if not every_s > 0:
        raise ValueError(f"collect_all every_s: a number of seconds above 0 was expected, got {every_s!r}")


@checked
async def collect_logs(
    launch: Launch,
    target: Path | str,
    *,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    limits: CollectLimits | None = None,
    allow_partial: bool = False,
    pool: Pool | None = None,
) -> Report[Collected]:
    """Bring the logs of every rank home, all of them, into ``target/<node_rank>-<name>/``; of one that runs, so far.

    A rank's ``stdout.log`` and ``stderr.log`` stand in a folder of its local rank's number (where torchrun runs, below
    two of its own), those of a command that is run once a node beside it.

    Args:
        launch: the launch.
        target: the local folder.
        at_once / at_most_s / limits / allow_partial: as for ``collect_all``, as is what makes a node's outcome ok.
        pool: the connections.
    """
    launch = launch.current
    home, ranks = Home(target, launch.nodes), launch.ranks

    async def work(node: Node) -> Collected:
        remote, source, place = lent.at(node), log_folder(launch.id, ranks[node]), home.folders[node]
        return await sync_results(remote, source, place, limits=limits, allow_partial=allow_partial)

    async with lent_pool(pool) as lent, home.kept_tidy(lent):
        return await map_nodes(launch.nodes, work, at_once=at_once, at_most_s=at_most_s)


async def sync_while_running(
    remote: Remote, job: Job, collect: Callable[[], Awaitable[Collected]], *, every_s: float
) -> Collected:
    """Collect every so often while a job runs, and a last time when it has ended, however it did.

    Args:
        remote: the job's node.
        job: the job; it is only looked at.
        collect: brings home once what there is; incremental, as ``sync_results`` is.
        every_s: seconds between two collects.

    Returns:
        The last collect, with all that came in the earlier ones counted too.

    Raises:
        ConnectionLost, ConnectError: the node stayed away for longer than ``wait_job`` tries.
        DeployError: the last collect failed. One before it that fails because the results are not there yet, or the
            connection broke, is tried again at the next turn.

    On cancellation the job is untouched, and what came whole stays.
    """
    received = bytes_received = 0
    while True:
        status = await wait_job(remote, job, timeout_s=every_s)
        over = status.state not in ("starting", "running")
        try:
            done = await collect()
        except (TransferFailed, ConnectionLost, ConnectError) as error:
            if over:
                raise
            remote.emit(Noted(node=remote.node.name, text=f"{error.message}; the next try is in {every_s:g} s"))
            continue
        received += done.received
        bytes_received += done.bytes_received
        if over:
            return attrs.evolve(done, received=received, bytes_received=bytes_received)
