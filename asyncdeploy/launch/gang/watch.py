"""Watch over a launch that runs: wait for all ranks, stop the gang when one fails, say why. Nothing is started here.

torchrun's agents never tell each other of a failure (fault F13): node 1 exits 1, and node 0 waits in its collective for
ever. Nor is one node's 0 a success: node 0 exits 0 after a barrier of 300 s when node 1 is lost. So success is N zeros,
and whoever watches stops the rest.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.gang.drivers import end_drivers
from asyncdeploy.launch.gang.node_folder import gather_evidence
from asyncdeploy.launch.gang.sight import AWAY_S, Sight
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.case import RankEnd
from asyncdeploy.launch.root_cause.judge import judge_launch
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import Job, JobStatus
from asyncdeploy.run.jobs import read_log, stop_because
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import ConnectionLost, DeployError
from asyncdeploy.values.events import Noted
from asyncdeploy.values.words import describe_survivors

OTHERS_STOPPED = "the other nodes are stopped"
"""How the event ends that says which node was seen to fail first."""
KILL_S = 5.0
"""After TERM and its grace: KILL, the sweep and the way back. A node that has not confirmed by then is unknown."""
ENGINE_S = 2.0
"""An engine whose drivers have taken all of the grace has nothing to save: it ends at TERM within so long."""
LOG_S = 10.0
"""For the last words of a rank that has ended, and what its node knows of it; a report without is better than none."""
LOG_BYTES = 64 * 1024
"""A traceback, torchrun's own one and its summary are far below it."""


@checked
async def watch_launch(pool: Pool, launch: Launch, *, away_s: float = AWAY_S) -> Report[JobStatus]:
    """Wait until all ranks have ended; at the first one that is seen to fail, stop the others.

    A node that does not answer is asked on, and nothing is stopped for that: the ranks watch over each other.

    Args:
        pool: the connections.
        launch: the launch.
        away_s: when none of the ranks that still run could be asked for so long, they are reported as unknown, and left
            as they are.

    Returns:
        One outcome a node rank. Success is status 0 of all. Of a failure the root cause is a LaunchFailed, what was
        stopped because of it is "cancelled", and what nobody could see end is "unknown".

    On cancellation the launch is left as it is; a stop that had begun is finished by the nodes.
    """
    sight = Sight(launch, away_s)
    await sight.look(pool)
    ends, first = sight.ends, sight.first
    if first is None:
        _name_what_is_left(pool, list(ends.values()))
        return judge_launch(launch, [ends[rank] for rank in range(len(launch.jobs))])
    cause = launch.jobs[first].node
    end = ends[first].status
    # Its supervisor may have been told to end by another rank's, while nobody watched: that one is to be named.
    how = "was stopped" if end is not None and end.stopped else "failed"
    why = end.because if end is not None and end.because else f"node rank {first} {how}"
    pool.at(cause).emit(Noted(node=cause.name, text=f"{why}: {OTHERS_STOPPED}"))
    # Stopped by a person, from elsewhere: nobody is accused of that.
    by_person = end is not None and end.stopped and not end.timed_out and end.told_at is None
    # Before the first TERM: what ended later may have ended because of it, and accuses nobody.
    stopped_at = time.time()
    after = await _stop_all(pool, launch, launch.grace_s, None if by_person else why)
    # What was known before we stopped anything is the better witness; the stop only made sure that nothing lives.
    # Of an orphan nothing was known yet: its supervisor was gone, and it lived.
    known = {rank: seen for rank, seen in ends.items() if seen.status is None or seen.status.state != "orphaned"}
    final = await with_logs(pool, launch, [known.get(rank, after[rank]) for rank in range(len(launch.jobs))])
    _name_what_is_left(pool, final)
    return judge_launch(launch, final, stopped_at=stopped_at, first=None if by_person else first)


@checked
async def end_launch(pool: Pool, launch: Launch, grace_s: float | None = None) -> Report[JobStatus]:
    """Stop all ranks: TERM at once to all, after the grace KILL; within 5 s more nothing lives.

    The drivers of an engine end first, within the same grace.

    Args:
        pool: the connections.
        launch: the launch.
        grace_s: seconds from TERM to KILL, None for the launch's own.

    Returns:
        One outcome a node rank: "cancelled" where it was running, else what it had become before.

    On cancellation the nodes finish what they were told.
    """
    stopped_at, grace_s = time.time(), launch.grace_s if grace_s is None else grace_s
    if launch.driver_env:
        began = time.monotonic()
        await end_drivers(pool, launch, grace_s)
        grace_s = max(min(grace_s, ENGINE_S), grace_s - (time.monotonic() - began))
    ends = await _stop_all(pool, launch, grace_s)
    _name_what_is_left(pool, ends)
    return judge_launch(launch, await with_logs(pool, launch, ends), stopped_at=stopped_at)


async def _stop_all(pool: Pool, launch: Launch, grace_s: float, because: str | None = None) -> list[RankEnd]:
    """Stop every job, also those that have ended: workers have sessions of their own and may outlive their agent.

    Args:
        because: which failure makes us do it, for whoever asks later; None is a person's will.
    """
    ranks = launch.ranks

    async def stop(job: Job) -> JobStatus:
        # A node that does not answer keeps the others' report waiting for no longer than a stop may take.
        with anyio.move_on_after(grace_s + KILL_S):
            return await stop_because(pool.at(job.node), job, grace_s, because)
        raise ConnectionLost(
            job.node.name, f"the node did not confirm within {grace_s + KILL_S:.0f} s that its rank ended"
        )

    # All at once: ranks that lose their peers while others still run would only write misleading last words.
    report = await map_nodes(launch.nodes, lambda node: _end(stop(launch.jobs[ranks[node]])), at_once=len(ranks))
    return list(report.unwrap())


def _name_what_is_left(pool: Pool, ends: Sequence[RankEnd]) -> None:
    """Say by events which processes could not be ended, and which GPUs' memory is still held."""
    for status in [end.status for end in ends if end.status is not None]:
        node = status.job.node
        if status.survivors:
            pool.at(node).emit(Noted(node=node.name, text=describe_survivors(status.survivors)))
        if status.gpu_left:
            text = f"GPU memory stays in use though nothing of the run is seen there: {', '.join(status.gpu_left)}"
            pool.at(node).emit(Noted(node=node.name, text=text))


async def _end(work: Awaitable[JobStatus]) -> RankEnd:
    """Return how a rank ended, or why nobody can say: an error of one node must not cancel the wait for the others."""
    try:
        return RankEnd(await work, known_at=time.time())
    except DeployError as error:
        return RankEnd(error=error, known_at=time.time())


async def with_logs(pool: Pool, launch: Launch, ends: Sequence[RankEnd]) -> list[RankEnd]:
    """Return the ends of those that are not ok with their last words, and what their nodes know of their ranks."""

    async def with_log(rank: int) -> RankEnd:
        end, job = ends[rank], launch.jobs[rank]
        if end.ok or end.status is None:
            return end
        remote = pool.at(job.node)
        # One after the other, and what came first stays: the log alone often names the cause, also where a node is too
        # busy with the ends of its ranks to gather the rest.
        with anyio.move_on_after(LOG_S):
            try:
                end = attrs.evolve(end, log=await read_log(remote, job, LOG_BYTES))
                end = attrs.evolve(end, evidence=await gather_evidence(remote, launch.id, rank, job.id))
            except DeployError:
                return end
        return end

    ranks = launch.ranks
    report = await map_nodes(launch.nodes, lambda node: with_log(ranks[node]), at_once=CALLS_AT_ONCE)
    return list(report.unwrap())
