"""Watch over a launch and start it again where it has a Restart: the mid level of restarts.

It is started again as a whole: torchrun's own --max-restarts over several nodes worked in none of five tries, static or
c10d.
"""

from __future__ import annotations

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.gang.restart import Recovery
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.gang.watch import watch_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Noted


async def watch_attempts(pool: Pool, launch: Launch, away_s: float) -> Report[JobStatus]:
    """Watch over a launch until an attempt of it succeeds or there shall be no other; return what became of the last.

    ``away_s`` is as for ``watch_launch``.

    On cancellation the attempt that runs is left as it is; of one that is being started nothing stays.
    """
    while True:
        report = await watch_launch(pool, launch.current, away_s=away_s)
        if report.ok or await next_attempt(pool, launch, report) is None:
            return report


async def next_attempt(pool: Pool, launch: Launch, report: Report[JobStatus]) -> Launch | None:
    """Start a launch that failed again, on a new port and without the node of the root cause; None if it is not to be.

    Args:
        pool: the connections.
        launch: any attempt's handle.
        report: what became of the last one.

    On cancellation nothing of the new attempt stays running.
    """
    recovery = launch.attempts
    if not isinstance(recovery, Recovery):
        return None
    # Where it ran before: next_deployments puts spares into their places, and the note names who was replaced.
    failed, before = failure_of(report), list(recovery.deployments)
    deployments = recovery.next_deployments(report, failed)
    if deployments is None or failed is None:
        return None
    first = deployments[0].node
    remote = pool.at(first)
    changes = [(old, new) for old, new in zip(before, deployments, strict=True) if old is not new]
    swaps = "".join(f"; {new.node.name} takes the place of {old.node.name}" for old, new in changes)
    text = f"attempt {recovery.attempt} of {launch.id} begins{swaps}; before: {failed.message}"
    remote.emit(Noted(node=first.name, text=text))
    try:
        # Not the handle that we were given, which may be the first one's: an attempt names all those before it, so that
        # any of their ids finds it (find_launch).
        earlier = launch.current
        started = await start_launch(
            pool, deployments, recovery.launcher, grace_s=recovery.grace_s, before=(*earlier.before, earlier.id)
        )
    except DeployError as error:  # the report of the attempt that failed stands, and says more than this does
        remote.emit(Noted(node=first.name, text=f"attempt {recovery.attempt} could not be started: {error}"))
        return None
    return recovery.begin(started)
