"""Which end is the root cause of a launch's failure, by what its nodes recorded. No I/O.

A rank that dies takes the others with it, in any order: some see their connections break and die of that, the rest is
stopped by us. What ended by itself before we stopped anything is a failure of its own, the earliest of these the cause,
unless its last words only complain of a peer. A node that fell silent comes before such complaints, and behind a
failure that was seen.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

import attrs

from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.case import Case, RankEnd
from asyncdeploy.launch.root_cause.outcomes import outcome_of
from asyncdeploy.launch.root_cause.records import KILLED_CODES, NodeRecords, RankFailure
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import LaunchFailed

NOTED_LATE_S = 2.0
"""A rank that raised may be the cause although its exception came so long after the stop began: clocks are known to a
round trip, and the victim's agent, who made us stop, can be quicker than the rank which takes its time to die."""


def judge_launch(
    launch: Launch,
    ends: Sequence[RankEnd],
    *,
    stopped_at: float | None = None,
    first: int | None = None,
    looked: bool = False,
) -> Report[JobStatus]:
    """Return what became of every node rank: the root cause is a LaunchFailed, what it took with it is cancelled.

    Args:
        launch: the launch.
        ends: in node rank order.
        stopped_at: when we began to stop it, seconds since 1970, our clock; None if nobody did.
        first: the node rank whose end made us stop it; None if a person did, and then nothing is a root cause.
        looked: nobody waited for the ends or stopped anything: what has not ended has not failed.
    """
    case = Case(launch, tuple(ends), stopped_at, first)
    over = [not looked or end.status is None or end.status.ended for end in ends]
    own = {rank: _own_failures(case, rank) for rank, end in enumerate(ends) if over[rank] and not end.ok}
    case = attrs.evolve(case, own={rank: failures for rank, failures in own.items() if failures})
    # A node that a person's stop does not reach is not accused of the end: its fate is unknown, and that is said.
    by_person = stopped_at is not None and first is None
    lost = [] if by_person else [_silence(case, rank) for rank, end in enumerate(ends) if end.status is None]
    late = [] if by_person else _late(case)
    candidates = [failure for failures in case.own.values() for failure in failures] + lost + late
    if not candidates and not by_person:
        candidates = _accused(case)
    case = attrs.evolve(case, root=min(candidates, key=lambda failure: _order(case, failure), default=None))
    return Report(tuple(outcome_of(case, rank) for rank in range(len(ends))))


def failure_of(report: Report[JobStatus]) -> LaunchFailed | None:
    """Return the root cause that a launch's report holds, None if it holds none."""
    return next((outcome.error for outcome in report if isinstance(outcome.error, LaunchFailed)), None)


def _own_failures(case: Case, rank: int) -> tuple[RankFailure, ...]:
    """Return the failures of a node that no stop of ours explains."""
    end, launch = case.ends[rank], case.launch
    if end.status is None:
        return ()
    offset = launch.clock_offsets_s[rank]
    ended_at = end.known_at + offset if end.status.ended_at is None else end.status.ended_at
    records = NodeRecords(rank, ended_at, offset, launch.workdirs[rank], end.log, end.evidence)
    if own := tuple(failure for failure in records.failures() if _is_own(case, failure)):
        return own
    # Nothing that one of its ranks did: what is known of the node's command is all there is.
    if _was_ended(case, rank):
        return ()
    number = getattr(signal, f"SIG{end.status.signal}", None)
    failure = records.own_failure(-number if number else end.status.exit_status)
    return (attrs.evolve(failure, words=failure.words or end.status.last_lines),)


def _was_ended(case: Case, rank: int) -> bool:
    """Whether a node's command ended because it was told to, by us, a person, or other nodes' supervisors."""
    if (stopped := case.was_stopped(rank)) is not None:
        return stopped
    # Its node has not seen its end: it was booted again, or the supervisor was killed too. No stop does that, though
    # one may have come first; a person's accuses nobody.
    if case.stopped_at is None or rank == case.first:
        return False
    return case.first is None and min(case.ends[rank].known_at, case.ended_at(rank)) >= case.stopped_at


def _is_own(case: Case, failure: RankFailure) -> bool:
    """Whether a rank failed by itself, and not because we stopped it."""
    stopped_at = case.told_to_stop_at(failure.node_rank)
    if stopped_at is None or failure.at < stopped_at:
        return True
    # An exception is dated when it was raised, an exit only when the agent saw it; KILL and TERM may have been ours.
    ended_by_us = failure.stopped or failure.exit_code in KILLED_CODES
    return failure.noted and not ended_by_us and failure.at < stopped_at + NOTED_LATE_S


def _silence(case: Case, rank: int) -> RankFailure:
    """What a node is accused of that does not answer."""
    return RankFailure(rank, case.ends[rank].known_at)


def _late(case: Case) -> list[RankFailure]:
    """Return who others gave up waiting for: a wait that is long is not a fault of who waited.

    What a node's program had not come to is told by its supervisor; where none was seen to come, nothing is proven.
    """
    waited = [failure for failures in case.own.values() for failure in failures if failure.waited]
    met = [None if end.status is None or end.ok else end.status.met for end in case.ends]
    if not waited or True not in met:
        return []
    at = min(failure.at for failure in waited)
    return [RankFailure(rank, at, late=True) for rank, came in enumerate(met) if came is False]


def _accused(case: Case) -> list[RankFailure]:
    """Return who the others ended for, where no node knows of a failure: two that lost sight of each other, say.

    One that is cut off misses all, and all miss it: most are right. Of two the first to miss the other is.
    """
    accused = {rank: case.accusations(rank) for rank, end in enumerate(case.ends) if not end.ok}
    most = max(map(len, accused.values()), default=0)
    found = {rank: words for rank, words in accused.items() if words and len(words) == most}
    at = [case.told_to_stop_at(by) or end.known_at for by, end in enumerate(case.ends)]
    return [
        RankFailure(rank, min(at[by] for by in words), told=next(iter(words.values()))) for rank, words in found.items()
    ]


def _order(case: Case, failure: RankFailure) -> tuple[int, bool, float]:
    """What comes first is the root cause: failures that were seen, silence, complaints of a peer, what we stopped.

    Time decides within a kind only: a victim's "connection reset" is often recorded before the end of the rank that
    died and took its time to die, and a node is called silent long after it fell silent. Of nodes that are silent the
    first is the one for which the others ended.
    """
    silent = case.was_stopped(failure.node_rank) is None  # a node that does not answer, or has forgotten all
    kind = 3 if failure.stopped else 2 if failure.symptom else 1 if silent else 0
    return (kind, silent and not case.told_of(failure.node_rank), failure.at)
