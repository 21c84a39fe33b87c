"""Why a launch failed, from what its nodes recorded: the root cause first, its consequences folded. No I/O.

A rank that dies takes the others with it, in any order: some see their connections break and die of that, the rest is
stopped by us. What ended by itself before we stopped anything is a failure of its own, the earliest of these the cause,
unless its last words only complain of a peer. A node that fell silent comes before such complaints, and behind a
failure that was seen.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.describe import Consequence, after, exit_words, fold_consequences
from asyncdeploy.launch.root_cause.known_errors import hint_for, symptom_in
from asyncdeploy.launch.root_cause.records import KILLED_CODES, NodeRecords, RankFailure, worker_exits
from asyncdeploy.nodes.report import Outcome, Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import Cancelled, DeployError, LaunchFailed

NOTED_LATE_S = 2.0
"""A rank that raised may be the cause although its exception came so long after the stop began: clocks are known to a
round trip, and the victim's agent, who made us stop, can be quicker than the rank which takes its time to die."""


@attrs.frozen
class RankEnd:
    """What is known of one node rank when the launch is over.

    Attributes:
        status: what its job's folder says, None where the node did not tell.
        error: why there is no status.
        log: the end of its log.
        known_at: when we learned of its end, seconds since 1970, our clock.
        evidence: what rank_evidence.py found on the node, {} where nobody could ask.
    """

    status: JobStatus | None = None
    error: DeployError | None = None
    log: str = ""
    known_at: float = 0.0
    evidence: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """True only if exit status 0 was recorded."""
        return self.status is not None and self.status.ok


@attrs.frozen
class _Case:
    """All that the judgement looks at; ``own`` are the failures that no stop of ours explains, by node rank."""

    launch: Launch
    ends: tuple[RankEnd, ...]
    stopped_at: float | None
    first: int | None
    own: Mapping[int, tuple[RankFailure, ...]]
    root: RankFailure | None = None


def judge_launch(
    launch: Launch, ends: Sequence[RankEnd], *, stopped_at: float | None = None, first: int | None = None
) -> Report[JobStatus]:
    """Return what became of every node rank: the root cause is a LaunchFailed, what it took with it is cancelled.

    Args:
        launch: the launch.
        ends: in node rank order.
        stopped_at: when we began to stop it, seconds since 1970, our clock; None if nobody did.
        first: the node rank whose end made us stop it; None if a person did, and then nothing is a root cause.
    """
    case = _Case(launch, tuple(ends), stopped_at, first, {})
    own = {rank: _own_failures(case, rank) for rank, end in enumerate(ends) if not end.ok}
    case = attrs.evolve(case, own={rank: failures for rank, failures in own.items() if failures})
    by_person = stopped_at is not None and first is None
    lost = [] if by_person else [_silence(case, rank) for rank, end in enumerate(ends) if end.status is None]
    candidates = [failure for failures in case.own.values() for failure in failures] + lost
    case = attrs.evolve(case, root=min(candidates, key=lambda failure: _order(case, failure), default=None))
    return Report(tuple(_outcome(case, rank) for rank in range(len(ends))))


def failure_of(report: Report[JobStatus]) -> LaunchFailed | None:
    """Return the root cause that a launch's report holds, None if it holds none."""
    return next((outcome.error for outcome in report if isinstance(outcome.error, LaunchFailed)), None)


def worker_failed(log: str) -> bool:
    """Return whether torchrun's agent has seen a worker fail before we stopped anything."""
    return bool(worker_exits(log, 0.0))


def _own_failures(case: _Case, rank: int) -> tuple[RankFailure, ...]:
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
    stopped_at, told = _stopped_at(case, rank), end.status.told_at is not None
    by_itself = rank == case.first and not told
    if stopped_at is not None and not by_itself and min(end.known_at, _ended_at(case, rank)) >= stopped_at:
        return ()
    number = getattr(signal, f"SIG{end.status.signal}", None)
    failure = records.own_failure(-number if number else end.status.exit_status)
    return (attrs.evolve(failure, words=failure.words or end.status.last_lines),)


def _is_own(case: _Case, failure: RankFailure) -> bool:
    """Whether a rank failed by itself, and not because we stopped it."""
    stopped_at = _stopped_at(case, failure.node_rank)
    if stopped_at is None or failure.at < stopped_at:
        return True
    ended_by_us = failure.stopped or failure.exit_code in KILLED_CODES
    return failure.noted and not ended_by_us and failure.at < stopped_at + NOTED_LATE_S


def _stopped_at(case: _Case, rank: int) -> float | None:
    """When a rank was told to end, by us or by the other nodes' supervisors, by our clock; None if it was not."""
    status = case.ends[rank].status
    told = None if status is None or status.told_at is None else status.told_at - case.launch.clock_offsets_s[rank]
    return min((at for at in (case.stopped_at, told) if at is not None), default=None)


def _silence(case: _Case, rank: int) -> RankFailure:
    """What a node is accused of that does not answer."""
    return RankFailure(rank, case.ends[rank].known_at)


def _order(case: _Case, failure: RankFailure) -> tuple[int, float]:
    silent = case.ends[failure.node_rank].status is None
    return (3 if failure.stopped else 2 if failure.symptom else 1 if silent else 0, failure.at)


def _ended_at(case: _Case, rank: int) -> float:
    """When a rank ended, by our clock."""
    end = case.ends[rank]
    if end.status is None or end.status.ended_at is None:
        return end.known_at
    return end.status.ended_at - case.launch.clock_offsets_s[rank]


def _outcome(case: _Case, rank: int) -> Outcome[JobStatus]:
    node, end = case.launch.jobs[rank].node, case.ends[rank]
    if end.ok:
        return Outcome(node, "ok", end.status)
    error = end.error or cast(JobStatus, end.status).failure()
    assert error is not None, "a status that is not ok has a failure"
    is_root = case.root is not None and rank == case.root.node_rank
    if end.status is None:  # a node that refuses us says nothing about the rank that ran there
        return Outcome(node, "unknown", None, _launch_failed(case, error) if is_root else error)
    if is_root and error.outcome == "failed":
        return Outcome(node, "failed", end.status, _launch_failed(case, error))
    if rank in case.own or not end.status.ended:  # what was told to stop, but is not known to have ended
        return Outcome(node, error.outcome, end.status, error)
    why = "stopped by us" if case.root is None else f"stopped because of {_name(case, case.root.node_rank)}"
    return Outcome(node, "cancelled", end.status, Cancelled(node.name, why))


def _launch_failed(case: _Case, error: DeployError) -> LaunchFailed:
    """Return the root cause as an error; ``error`` is what is known of its node."""
    launch, root = case.launch, cast(RankFailure, case.root)
    end, name = case.ends[root.node_rank].status, _name(case, root.node_rank)
    rest = [rank for rank, seen in enumerate(case.ends) if rank != root.node_rank and not seen.ok]
    others = [rank for rank in rest if rank not in case.own]
    fate = f"; {len(others)} other node{'s' * (len(others) != 1)} stopped because of it" if others else ""
    hint = root.oom or hint_for(f"{root.error}\n{root.words}") or error.hint
    if not hint and end is not None and not root.log:
        hint = f"its whole log: ~/.asyncdeploy/jobs/{end.job.id}/log on {name}"
    failed = LaunchFailed(
        name,
        f"run {launch.id} failed: {_what(case, error)}{fate}",
        hint,
        root.words or error.evidence,
        launch_id=launch.id,
        node_rank=root.node_rank,
        status=end.exit_status if end else None,
        signal=end.signal if end else None,
        consequences=fold_consequences([*_beside(case), *(_consequence(case, rank) for rank in rest)]),
        rank=_global_rank(case, root),
        local_rank=root.local_rank,
        world_size=launch.placement.world_size,
        cause=root.error,
        frames=root.frames,
        log=root.log,
    )
    failed.__cause__ = error
    return failed


def _what(case: _Case, error: DeployError) -> str:
    """Say what the root cause did, and how its node ended."""
    root = cast(RankFailure, case.root)
    status, name = case.ends[root.node_rank].status, _name(case, root.node_rank)
    if status is None:
        return f"node rank {root.node_rank} ({name}) does not answer: {error.message}"
    how = f"{status.how}{after(status)}"
    if root.local_rank is None:
        return f"node rank {root.node_rank} ({name}) {how}"
    words = f" ({exit_words(root.exit_code)})" if root.exit_code is not None else ""
    place = f"(node rank {root.node_rank}, local rank {root.local_rank})"
    return f"rank {_global_rank(case, root)}{words} on {name} {place} failed, its node {how}"


def _beside(case: _Case) -> list[Consequence]:
    """What the root cause did to other ranks of its own node."""
    root = cast(RankFailure, case.root)
    return [
        Consequence(
            f"rank {_global_rank(case, each)} on {_name(case, each.node_rank)}",
            each.at - root.at,
            "stopped with it" if each.stopped else symptom_in(f"{each.error}\n{each.words}") or "failed as well",
        )
        for each in case.own.get(root.node_rank, ())
        if each.local_rank != root.local_rank
    ]


def _consequence(case: _Case, rank: int) -> Consequence:
    end, later_s = case.ends[rank], _ended_at(case, rank) - cast(RankFailure, case.root).at
    fate = "stopped by us"
    if end.status is None or not end.status.ended:
        fate = "fate unknown" if end.error is None else f"fate unknown: {end.error.message}"
    elif rank in case.own:
        first = min(case.own[rank], key=lambda failure: failure.at)
        later_s, words = first.at - cast(RankFailure, case.root).at, f"{first.error}\n{first.words}"
        symptom = symptom_in(words) if first.symptom else ""
        fate = f"{end.status.how}: {symptom}" if symptom else end.status.how
    return Consequence(_name(case, rank), later_s, fate)


def _global_rank(case: _Case, failure: RankFailure) -> int | None:
    if failure.local_rank is None:
        return None
    return case.launch.placement.first_rank(failure.node_rank) + failure.local_rank


def _name(case: _Case, rank: int) -> str:
    return case.launch.jobs[rank].node.name
