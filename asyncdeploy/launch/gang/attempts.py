"""Watch over a launch and start it again where it has a Restart: the mid level of restarts.

It is started again as a whole: torchrun's own --max-restarts over several nodes worked in none of five tries, static or
c10d.
"""

from __future__ import annotations

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.gang.lease import TELL_S, attempt_elsewhere, hold, watching
from asyncdeploy.launch.gang.recall import note_next
from asyncdeploy.launch.gang.restart import Plan, Recovery
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.gang.watch import end_launch, watch_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import DeployError, LaunchFailed
from asyncdeploy.values.events import Noted


async def watch_attempts(pool: Pool, launch: Launch, away_s: float) -> Report[JobStatus]:
    """Watch over a launch until an attempt of it succeeds or there shall be no other; return what became of the last.

    ``away_s`` is as for ``watch_launch``.

    On cancellation the attempt that runs is left as it is; of one that is being started nothing stays.
    """
    watched = launch.current
    while True:
        async with watching(pool, watched):
            report = await watch_launch(pool, watched, away_s=away_s)
            following = None if report.ok else await next_attempt(pool, watched, report)
        if following is None:
            return report
        watched = following


async def next_attempt(pool: Pool, watched: Launch, report: Report[JobStatus]) -> Launch | None:
    """Return the attempt behind one that failed, on a new port and without the node of the root cause.

    Where several watch over a launch one of them starts it, and all are given it: also those on other machines, whose
    handles know of no Restart, as long as it runs on nodes that they know.

    Args:
        pool: the connections.
        watched: the attempt that failed.
        report: what became of it.

    Returns:
        The attempt that follows; None if there is not to be one.

    On cancellation nothing of a new attempt stays running; whoever watches, or comes to, starts it.
    """
    recovery = watched.attempts
    if not isinstance(recovery, Recovery):
        return await attempt_elsewhere(pool, watched)
    async with recovery.turn:
        current = recovery.current
        if current is not None and current.id != watched.id:
            return current  # somebody else who watches was first
        if recovery.over == watched.id:
            return None
        failed = failure_of(report)
        plan = recovery.plan(report, failed)
        following = await _start(pool, recovery, watched, plan, failed) if plan and failed else None
        if following is None:
            recovery.over = watched.id
        return following


async def _start(pool: Pool, recovery: Recovery, watched: Launch, plan: Plan, failed: LaunchFailed) -> Launch | None:
    """Start the next attempt; None if that fails, or somebody has stopped the launch meanwhile."""
    first, number = plan.deployments[0].node, recovery.attempt + 1
    remote = pool.at(first)
    changes = zip(recovery.deployments, plan.deployments, strict=True)
    swaps = "".join(f"; {new.node.name} takes the place of {old.node.name}" for old, new in changes if old is not new)
    text = f"attempt {number} of {watched.id} begins{swaps}; before: {failed.message}"
    remote.emit(Noted(node=first.name, text=text))
    try:
        await hold(pool, watched.nodes, watched)
        if not await _prepared(recovery, watched, plan):
            return None
        # An attempt names all those before it, so that any of their ids finds it (find_launch).
        before = (*watched.before, watched.id)
        started = await start_launch(pool, plan.deployments, recovery.launcher, grace_s=recovery.grace_s, before=before)
    except DeployError as error:  # the report of the attempt that failed stands, and says more than this does
        remote.emit(Noted(node=first.name, text=f"attempt {number} could not be started: {error}"))
        return None
    if recovery.stopped:
        await end_launch(pool, started)
        return None
    recovery.take(plan)
    following = recovery.begin(started)
    if replaced := [node for node in watched.nodes if node not in started.nodes]:
        await map_nodes(replaced, lambda node: note_next(pool.at(node), started), at_most_s=TELL_S)
    return following


async def _prepared(recovery: Recovery, watched: Launch, plan: Plan) -> bool:
    """Do what somebody wants done between two attempts; False if the launch was stopped meanwhile."""
    if recovery.policy.between is not None:
        await recovery.policy.between(watched, tuple(plan.deployments))
    return not recovery.stopped
