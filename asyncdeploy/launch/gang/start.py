"""Set the ranks of a job off together: all of them start, or none stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.launch.gang.join import await_joined, check_engine
from asyncdeploy.launch.gang.links import with_links
from asyncdeploy.launch.gang.node_folder import tools_of
from asyncdeploy.launch.gang.plan import plan_launch
from asyncdeploy.launch.gang.recall import keep_launch
from asyncdeploy.launch.gang.undo import FORGET_S, UNDO_S, fate_of, undo_launch, undo_rank
from asyncdeploy.launch.gang.watch import LOG_BYTES
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.placement import EngineLauncher, Launcher
from asyncdeploy.launch.preflight.rendezvous import port_opened
from asyncdeploy.launch.root_cause.agent_log import worker_failed
from asyncdeploy.launch.root_cause.known_errors import port_was_taken
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import Report
from asyncdeploy.push.push import finish_push
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import job_status, read_log, start_job
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError, LaunchFailed, PreflightFailed, ToolMissing
from asyncdeploy.values.events import Noted

PORT_TRIES = 3
"""A port that was free a moment ago is taken once in thousands of starts; three times in a row it is something else."""
LINK_TAKEN = "the port of its launch's link is taken"
"""What node_side/run/membership.py says when the link's port is somebody else's by now; no rank starts without it."""
OPENING_S = 60.0
"""How long rank 0 may take to listen: importing torch from a cold network disk. Later is no failure, only not seen."""
OPENING_LOOK_S = 0.25
"""Between two looks whether it listens; each is two small calls."""
SILENCE_S = 60.0
"""A node that is away for less comes back in time: a switch that restarts, a nap of a virtual machine."""


@checked
async def start_launch(
    pool: Pool,
    deployments: Sequence[Deployment],
    launcher: Launcher,
    *,
    grace_s: float = 5.0,
    silence_s: float = SILENCE_S,
    before: Sequence[str] = (),
) -> Launch:
    """Start one job a node, detached, with ranks in the order of the deployments.

    Args:
        pool: the connections.
        deployments: nodes that are ready, in node rank order.
        launcher: what each node runs: a Torchrun.
        grace_s: seconds from TERM to KILL whenever the launch is stopped.
        silence_s: after so many seconds without a sign of a node the others end, also when nobody watches them. A rank
            that fails ends them at once.
        before: ids of its earlier attempts, the first one first; ranks find their number in ASYNCDEPLOY_ATTEMPT.

    Returns:
        The launch, once all ranks were started and rank 0 listens (or has ended, which is the watcher's to judge).

    Raises:
        PreflightFailed: the nodes cannot run it together; nothing was started.
        LaunchFailed: a rank could not be started, or a node did not join its engine; the others were stopped.
        ToolMissing: an environment has no such engine; nothing was started.

    On cancellation nothing of it stays running.
    """
    prover = await check_engine(pool, deployments, launcher) if isinstance(launcher, EngineLauncher) else ""
    for attempt in range(PORT_TRIES):
        try:
            launch, commands, link_port = await plan_launch(pool, deployments, launcher, grace_s, before)
        except PreflightFailed:
            raise
        except DeployError as cause:
            asked = "" if isinstance(cause, ToolMissing) else "could not be asked for a port; "
            raise launch_failed(cause, f"{asked}nothing was started") from cause
        first, port = launch.jobs[0].node, launch.placement.master_port
        try:
            jobs = await _start_ranks(pool, launch, with_links(launch, commands, link_port, silence_s), prover)
        except LaunchFailed as error:
            if LINK_TAKEN not in error.message:
                raise
            port = link_port
        else:
            launch = attrs.evolve(launch, jobs=jobs)
            if await _stands(pool, launch, launcher):
                return launch
            await undo_launch(pool, launch)
        pool.at(first).emit(Noted(node=first.name, text=f"port {port} was taken meanwhile (try {attempt + 1})"))
    raise LaunchFailed(
        deployments[0].node.name,
        f"its port was taken by something else {PORT_TRIES} times between the proof and the start",
        "look at what listens there: ss -ltnp",
        launch_id=launch.id,
        node_rank=0,
    )


async def _start_ranks(pool: Pool, launch: Launch, commands: Sequence[Command], prover: str) -> tuple[Job, ...]:
    """Start every rank and return their jobs; whatever happens instead, none stays."""
    ranks = launch.ranks
    limit, waiting, all_started = anyio.CapacityLimiter(CALLS_AT_ONCE), set(ranks), anyio.Event()

    async def start(node: Node) -> Job:
        job, remote, late_s = launch.jobs[ranks[node]], pool.at(node), FORGET_S
        try:
            async with limit:
                await finish_push(remote, job.site)
                await keep_launch(remote, launch, tools_of(prover))
                started = await start_job(remote, commands[ranks[node]], name=job.name, site=job.site, job_id=job.id)
            late_s = UNDO_S
            waiting.discard(node)
            if not waiting:
                all_started.set()
            await all_started.wait()
            kept = started.survives_logout, started.keeps_shared_memory
            return attrs.evolve(job, survives_logout=kept[0], keeps_shared_memory=kept[1])
        except asyncio.CancelledError:
            # All nodes undo at the same time, or many would not be back in time; a start on its way has undone itself.
            if waiting:
                await finish(undo_rank(remote, launch, job), late_s)
            raise

    try:
        report = await map_nodes(launch.nodes, start, at_once=len(ranks), stop_on_failure=True)
    except asyncio.CancelledError:
        if not waiting:  # all had started: some of their tasks have ended well, and undo nothing
            await undo_launch(pool, launch)
        raise
    if not report.ok:
        raise _not_started(launch, report, await undo_launch(pool, launch))
    return tuple(report.values)


def launch_failed(cause: DeployError, what: str, launch_id: str = "", node_rank: int | None = None) -> LaunchFailed:
    """Return the error of a launch that did not come to be because of what happened on one node."""
    which = f"node rank {node_rank} " if node_rank is not None else ""
    run = f"run {launch_id} failed: " if launch_id else ""
    message = f"{run}{which}{what}: {cause.message}"
    return LaunchFailed(cause.node, message, cause.hint, cause.evidence, launch_id=launch_id, node_rank=node_rank)


def _not_started(launch: Launch, report: Report[Job], left: Iterable[Node]) -> LaunchFailed:
    outcome = next(outcome for outcome in report if outcome.state in ("failed", "unknown"))
    cause = outcome.error or DeployError(outcome.node.name, f"ended as {outcome.state}")
    error = launch_failed(cause, f"could not be started ({fate_of(left)})", launch.id, launch.ranks[outcome.node])
    error.__cause__ = cause
    return error


async def _stands(pool: Pool, launch: Launch, launcher: Launcher) -> bool:
    """Wait until rank 0 listens and, of an engine, all nodes are in it; False if its port was taken meanwhile."""
    if launcher.opens_port and not await _opened(pool, launch):
        return False
    if isinstance(launcher, EngineLauncher):
        await await_joined(pool, launch, launcher)
    return True


async def _opened(pool: Pool, launch: Launch) -> bool:
    """Wait until rank 0 listens; False if it ended because its port was taken before any worker began."""
    job = launch.jobs[0]
    remote = pool.at(job.node)
    try:
        with anyio.move_on_after(OPENING_S):
            while True:
                status = await job_status(remote, job)
                if status.ended:
                    log = "" if status.ok else await read_log(remote, job, LOG_BYTES)
                    return not port_was_taken(log) or worker_failed(log)
                if await port_opened(remote, launch.id, launch.placement.master_port) is not False:
                    return True
                await anyio.sleep(OPENING_LOOK_S)
    except DeployError:
        pass  # the ranks were started; what becomes of them is the watcher's to say
    except BaseException:
        await undo_launch(pool, launch)
        raise
    return True
