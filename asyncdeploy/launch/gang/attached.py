"""What dies with us: the ranks of run_launch, a driver beside an engine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, run_in_project
from asyncdeploy.launch.gang.drivers import ENGINE_GONE, WORDS, driver_command
from asyncdeploy.launch.gang.node_folder import gather_evidence, place_tools
from asyncdeploy.launch.gang.plan import plan_launch
from asyncdeploy.launch.gang.watch import watch_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.placement import EngineLauncher, Launcher
from asyncdeploy.launch.root_cause.case import RankEnd
from asyncdeploy.launch.root_cause.judge import failure_of, judge_launch
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import Cancelled, DeployError, LaunchFailed

GRACE_S = 5.0
"""From TERM to KILL for the ranks beside one that failed."""
GONE_S = 20.0
"""Where an engine is gone its supervisors end all nodes together, and gather why; a moment, beside their grace."""
EVIDENCE_S = 10.0
"""For what a node knows of ranks that failed; a report without is better than none."""


@checked
async def run_launch(pool: Pool, deployments: Sequence[Deployment], launcher: Launcher) -> Report[Completed]:
    """Run one command a node, attached, with ranks in the order of the deployments; the first failure ends the others.

    Args:
        pool: the connections.
        deployments: what stands on the nodes, in node rank order.
        launcher: what to run.

    Returns:
        One outcome a node rank: of the root cause its error is a LaunchFailed, as of a detached launch; of those that
        were ended because another failed it is "cancelled". What was printed is in the values either way.

    Raises:
        PreflightFailed: the nodes cannot run it together; nothing was started.
        ValueError: the launcher's ranks are an engine, which does not end by itself.

    On cancellation the runs are ended.
    """
    if isinstance(launcher, EngineLauncher):
        kind = type(launcher).__name__
        raise ValueError(f"run_launch: ranks that end were expected, got a {kind}; fan_out or a block starts an engine")
    launch, commands, _ = await plan_launch(pool, deployments, launcher, GRACE_S)
    work = dict(zip(launch.nodes, zip(deployments, commands, strict=True), strict=True))
    done: dict[Node, Completed] = {}
    failed: list[Node] = []

    async def run(node: Node) -> Completed:
        try:
            await place_tools(pool.at(node), launch.id)
            done[node] = await run_in_project(pool, *work[node])
            if error := done[node].failure():
                raise error
        except DeployError:
            failed.append(node)
            raise
        return done[node]

    report = await map_nodes(launch.nodes, run, at_once=len(work), stop_on_failure=True)
    root = await _root_cause(pool, launch, done) if failed else None
    outcomes = []
    for rank, outcome in enumerate(report):
        error = outcome.error
        if isinstance(error, Cancelled) and failed:
            error = Cancelled(error.node, f"stopped because of {root.node if root else failed[0].name}")
        if root is not None and root.node_rank == rank and outcome.state == "failed":
            root.__cause__, error = error, root
        outcomes.append(attrs.evolve(outcome, value=done.get(outcome.node), error=error))
    return Report(tuple(outcomes))


async def _root_cause(pool: Pool, launch: Launch, done: Mapping[Node, Completed]) -> LaunchFailed | None:
    """Return what a failed launch's nodes say of it; of those that were ended for it there is nothing to ask."""

    async def end(rank: int) -> RankEnd:
        job = launch.jobs[rank]
        completed = done.get(job.node)
        if completed is None or (completed.status is None and completed.signal is None):
            # Ended by us: it counts as one that ended well, because it accuses nobody.
            return RankEnd(JobStatus(job, "exited", 0), known_at=time.time())
        state = "signalled" if completed.signal else "exited"
        status = JobStatus(job, state, completed.status, completed.signal)  # type: ignore[arg-type]
        log = (completed.stdout + completed.stderr).decode("utf-8", "replace")
        found = RankEnd(status, log=log[-64 * 1024 :], known_at=time.time())
        if not status.ok:
            with anyio.move_on_after(EVIDENCE_S):
                try:
                    evidence = await gather_evidence(pool.at(job.node), launch.id, rank, job.id)
                    found = attrs.evolve(found, evidence=evidence)
                except DeployError:
                    return found
        return found

    ranks = launch.ranks
    ends = await map_nodes(launch.nodes, lambda node: end(ranks[node]), at_once=len(ranks))
    return failure_of(judge_launch(launch, ends.unwrap()))


async def run_driver(pool: Pool, launch: Launch, command: Command | str, *, check: bool) -> Completed:
    """Run a driver beside the launch's engine and return what it left.

    Raises:
        LaunchFailed: the engine is gone, with the root cause where its nodes know one.
        DeployError: as ``run_command``.
        ValueError: the launch has no engine.

    On cancellation the driver is ended, the engine stays.
    """
    completed = await run_command(pool.at(launch.nodes[0]), driver_command(launch, command))
    if completed.status == ENGINE_GONE and WORDS in completed.stderr:
        raise await _gone(pool, launch)
    return completed.check() if check else completed


async def _gone(pool: Pool, launch: Launch) -> LaunchFailed:
    """Return why there is no engine any more."""
    node, failure, ended = launch.nodes[0].name, None, False
    with anyio.move_on_after(GONE_S + launch.grace_s):
        failure = failure_of(await watch_launch(pool, launch))
        ended = True
    how = "was stopped, and its driver with it" if ended else "has no engine, though nobody says that it ended"
    return failure or LaunchFailed(node, f"run {launch.id} {how}", launch_id=launch.id)
