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
    pool: Pool | None = None,
) -> Report[Collected]:
    """Bring a folder or file home from every node, into ``target/<node_rank>-<name>/``.

    Args:
        deployments: deployments, or a launch.
        source: relative to the project's folder on the node, absolute, or "~/...".
        target: a local folder.
        at_once: how many nodes send at a time.
        at_most_s: a node's own time; one that takes longer is stopped there, and unknown. Not together with every_s.
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
    _check_every(every_s, at_most_s, jobs)
    sources = {node: find_source(source, folder, "collect_all source") for node, folder in folders.items()}
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
        if every_s is not None:
            return await map_nodes(tuple(sources), work, at_once=max(1, len(sources)))
        return await map_nodes(tuple(sources), work, at_once=at_once, at_most_s=at_most_s)


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
    pool: Pool | None = None,
) -> Report[Collected]:
    """Bring the logs of every rank home, into ``target/<node_rank>-<name>/``; of a launch that runs, what there is.

    A rank's ``stdout.log`` and ``stderr.log`` stand in a folder of its local rank's number (where torchrun runs, below
    two of its own), those of a command that is run once a node beside it.
    """
    launch = launch.current
    ranks = launch.ranks

    async def work(node: Node) -> Collected:
        rank, place = ranks[node], Path(target) / f"{ranks[node]}-{node.name}"
        return await sync_results(lent.at(node), log_folder(launch.id, rank), place, limits=limits)

    async with lent_pool(pool) as lent:
        return await map_nodes(launch.nodes, work, at_once=at_once, at_most_s=at_most_s)


async def sync_while_running(
    remote: Remote, job: Job, collect: Callable[[], Awaitable[Collected]], *, every_s: float
) -> Collected:
    """Collect every so often while a job runs, and a last time when it has ended, however it did.

    Args:
        remote: the job's node.
        job: the job; it is only looked at.
        collect: brings the results home once; incremental, as ``sync_results`` is.
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
