"""A judgement as errors and outcomes: what people are told of each node rank. Text; no I/O."""

from __future__ import annotations

from asyncdeploy.launch.root_cause.case import Case
from asyncdeploy.launch.root_cause.describe import Consequence, after, exit_words, fold_consequences
from asyncdeploy.launch.root_cause.known_errors import hint_for, symptom_in
from asyncdeploy.launch.root_cause.records import RankFailure
from asyncdeploy.nodes.report import Outcome
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import Cancelled, DeployError, JobFailed, JobLost, LaunchFailed

LATE_HINT = "what takes it so long: imports from a cold disk? Torchrun(rendezvous_s=...) waits longer"


def outcome_of(case: Case, rank: int) -> Outcome[JobStatus]:
    """Return what became of one node rank: the root cause is a LaunchFailed, what it took with it is cancelled."""
    node, end, root = case.launch.jobs[rank].node, case.ends[rank], case.root
    if end.ok:
        return Outcome(node, "ok", end.status)
    error = end.failure()
    blamed = _launch_failed(case, root, error) if root is not None and rank == root.node_rank else None
    if end.status is None:  # a node that refuses us says nothing about the rank that ran there
        return Outcome(node, "unknown", None, blamed or error)
    # A node that knows the rank and has looked for its processes: nothing of it lives, whatever it came to.
    looked = end.status.state == "lost" and end.status.started_at is not None
    if blamed is not None and (error.outcome == "failed" or looked):
        return Outcome(node, "failed", end.status, blamed)
    if rank in case.own or not end.status.ended:  # what was told to stop, but is not known to have ended
        return Outcome(node, error.outcome, end.status, blamed or error)
    why = "stopped by us" if root is None else f"stopped because of {case.name(root.node_rank)}"
    return Outcome(node, "cancelled", end.status, Cancelled(node.name, why))


def _launch_failed(case: Case, root: RankFailure, error: DeployError) -> LaunchFailed:
    """Return the root cause as an error; ``error`` is what is known of its node."""
    launch = case.launch
    end, name = case.ends[root.node_rank].status, case.name(root.node_rank)
    rest = [rank for rank, seen in enumerate(case.ends) if rank != root.node_rank and not seen.ok]
    over = [seen.status is not None and seen.status.ended for seen in case.ends]
    others = [rank for rank in rest if over[rank] and rank not in case.own]
    fate = f"; {len(others)} other node{'s' * (len(others) != 1)} stopped because of it" if others else ""
    missing = end.missing if end is not None else ""
    own = "" if isinstance(error, JobFailed | JobLost) else error.hint  # where its log lies is said below, if at all
    # What a rank printed before its node was booted again, or was killed with it, was no complaint of that.
    said = root.error if isinstance(error, JobLost) else f"{root.error}\n{root.words}"
    hint = LATE_HINT if root.late else root.oom or missing or hint_for(said) or own
    if not hint and end is not None and not root.log:
        hint = f"its whole log: ~/.asyncdeploy/jobs/{end.job.id}/log on {name}"
    failed = LaunchFailed(
        name,
        f"run {launch.id} failed: {_what(case, root, error)}{fate}",
        hint,
        root.words or error.evidence,
        launch_id=launch.id,
        node_rank=root.node_rank,
        status=end.exit_status if end else None,
        signal=end.signal if end else None,
        consequences=fold_consequences([*_beside(case, root), *(_consequence(case, root, rank) for rank in rest)]),
        rank=case.global_rank(root),
        local_rank=root.local_rank,
        world_size=launch.placement.world_size,
        cause=root.error,
        frames=root.frames,
        log=root.log,
    )
    failed.__cause__ = error
    return failed


def _what(case: Case, root: RankFailure, error: DeployError) -> str:
    """Say what the root cause did, and how its node ended."""
    status, name = case.ends[root.node_rank].status, case.name(root.node_rank)
    if status is None:
        told = case.told_of(root.node_rank)
        said = f"; the other nodes say: {told}" if told else ""
        return f"node rank {root.node_rank} ({name}) does not answer: {error.message}{said}"
    if root.told:
        return root.told
    if root.late:
        return f"node rank {root.node_rank} ({name}) came too late: its program had not come to where the others waited"
    how = f"{status.how}{after(status)}"
    if root.local_rank is None:
        return f"node rank {root.node_rank} ({name}) {how}"
    words = f" ({exit_words(root.exit_code)})" if root.exit_code is not None else ""
    place = f"(node rank {root.node_rank}, local rank {root.local_rank})"
    return f"rank {case.global_rank(root)}{words} on {name} {place} failed, its node {how}"


def _beside(case: Case, root: RankFailure) -> list[Consequence]:
    """What the root cause did to other ranks of its own node."""
    return [
        Consequence(
            f"rank {case.global_rank(each)} on {case.name(each.node_rank)}",
            each.at - root.at,
            "stopped with it" if each.stopped else symptom_in(f"{each.error}\n{each.words}") or "failed as well",
        )
        for each in case.own.get(root.node_rank, ())
        if each.local_rank != root.local_rank
    ]


def _consequence(case: Case, root: RankFailure, rank: int) -> Consequence:
    """What the root cause did to another node."""
    end, later_s = case.ends[rank], case.ended_at(rank) - root.at
    fate = "stopped by us"
    if end.status is not None and not end.status.ended and end.error is None:
        fate = end.status.how
    elif end.status is None or not end.status.ended:
        fate = "fate unknown" if end.error is None else f"fate unknown: {end.error.message}"
    elif rank in case.own:
        first = min(case.own[rank], key=lambda failure: failure.at)
        later_s, words = first.at - root.at, f"{first.error}\n{first.words}"
        symptom = symptom_in(words) if first.symptom else ""
        fate = f"{end.status.how}: {symptom}" if symptom else end.status.how
    return Consequence(case.name(rank), later_s, fate)
