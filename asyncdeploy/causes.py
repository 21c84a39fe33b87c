"""Why a launch failed, from what its nodes recorded: the root cause first, its consequences folded. No I/O.

A rank that dies takes the others with it, in any order: some see their connections break and die of that, the rest is
stopped by us. What ended by itself before we stopped anything is a failure of its own, the earliest of these the cause,
unless its last words only complain of a peer.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import cast

import attrs

from asyncdeploy.errors import Cancelled, DeployError, LaunchFailed
from asyncdeploy.job import JobStatus
from asyncdeploy.launch_data import Launch
from asyncdeploy.nodes import fold_names
from asyncdeploy.report import Outcome, Report

EVIDENCE_LINES = 8
"""Of the failing rank's last words: a traceback's end and the frames above it."""

_SECONDARY = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|recvValue failed|sendBytes failed|Watchdog caught"
    r"|ncclRemoteError|connectFullMesh|DistNetworkError|DistStoreError|Gloo connect"
    r"|EOFError|IncompleteReadError|BrokenPipeError|Connection(?:Reset|Refused|Aborted)Error"
)
_WORKER_FAILED = re.compile(r"failed \(exitcode: (-?[0-9]{1,10})\) local_rank: ([0-9]{1,6}) \(pid: [0-9]+\)")
_RANK_LINE = re.compile(r"\[[^\]\s]{0,64}?([0-9]{1,6})\]:(.*)")
_RANK_TAG = re.compile(r"\[rank[0-9]+\]:\s?")
_AGENT_NOISE = re.compile(r"[EWI][0-9]{4} [0-9:.]+ +[0-9]+ .*torch/distributed/")
_PORT_TAKEN = re.compile(r"EADDRINUSE|[Aa]ddress already in use")
_TERM = -15

_HINTS = (
    (
        re.compile(r"CUDA out of memory|OutOfMemoryError"),
        "the GPU's memory was full: by this job, or by another process",
    ),
    (re.compile(r"No module named"), "it is missing in the node's environment: look at the env's groups and extras"),
    (_PORT_TAKEN, "something else took a port between our proof and the start: start it again"),
    (
        re.compile(r"can't open file|No such file"),
        "paths are relative to the project's folder on the node: was it pushed?",
    ),
)


@attrs.frozen
class RankEnd:
    """What is known of one node rank when the launch is over.

    Attributes:
        status: what its job's folder says, None where the node did not tell.
        error: why there is no status.
        log: the end of its log.
        known_at: when we learned of its end, seconds since 1970, our clock.
    """

    status: JobStatus | None = None
    error: DeployError | None = None
    log: str = ""
    known_at: float = 0.0

    @property
    def ok(self) -> bool:
        """True only if exit status 0 was recorded."""
        return self.status is not None and self.status.ok


@attrs.frozen
class WorkerFailure:
    """What torchrun's agent said of the first of its workers that failed."""

    local_rank: int
    exit_code: int


@attrs.frozen
class _Ends:
    """All that the judgement looks at."""

    launch: Launch
    ends: tuple[RankEnd, ...]
    stopped_at: float | None
    first: int | None


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
    case = _Ends(launch, tuple(ends), stopped_at, first)
    own = [rank for rank, end in enumerate(ends) if not end.ok and _is_own_failure(case, rank)]
    root = min(own, key=lambda rank: _order(case, rank), default=None)
    return Report(tuple(_outcome(case, rank, root, own) for rank in range(len(ends))))


def failure_of(report: Report[JobStatus]) -> LaunchFailed | None:
    """Return the root cause that a launch's report holds, None if it holds none."""
    return next((outcome.error for outcome in report if isinstance(outcome.error, LaunchFailed)), None)


def describe_failure(error: LaunchFailed) -> str:
    """Return a launch's failure as people read it: what happened, root cause, consequences, hint."""
    lines = [error.message, f"ROOT CAUSE  {error.node}"]
    lines += [f"  {line}" for line in error.evidence.splitlines()]
    if error.consequences:
        lines += ["CONSEQUENCES", *(f"  {line}" for line in error.consequences)]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def worker_failure(log: str) -> WorkerFailure | None:
    """Return the first worker failure that an agent named in its log, unless the worker died of a TERM (ours)."""
    for found in _WORKER_FAILED.finditer(log):
        if int(found[1]) != _TERM:
            return WorkerFailure(int(found[2]), int(found[1]))
    return None


def port_was_taken(log: str) -> bool:
    """Return whether a rank's last words say that a port was taken."""
    return _PORT_TAKEN.search(log) is not None


def last_words(log: str) -> str:
    """Return what the failing worker printed at last; without torchrun the last lines of all."""
    failed = worker_failure(log)
    mine, rest = [], []
    for line in log.splitlines():
        found = _RANK_LINE.match(line)
        if found and failed and int(found[1]) == failed.local_rank:
            mine.append(_RANK_TAG.sub("", found[2].removeprefix(" "), count=1))
        elif not _AGENT_NOISE.match(line):
            rest.append(line)
    lines = [line.rstrip() for line in mine or rest if line.strip()]
    traces = [index for index, line in enumerate(lines) if line.startswith("Traceback (most recent")]
    lines = _one_trace(lines[traces[-1] :]) if traces else lines
    return "\n".join(line[-400:] for line in lines[-EVIDENCE_LINES:])


def _one_trace(lines: list[str]) -> list[str]:
    """Return a traceback up to the line that names its error: stdout comes by another way, and may come after it."""
    for index, line in enumerate(lines[1:], 2):
        if not line.startswith(" "):
            return lines[:index]
    return lines


def _is_own_failure(case: _Ends, rank: int) -> bool:
    end = case.ends[rank]
    if case.stopped_at is None or rank == case.first:
        return True
    if worker_failure(end.log) is not None:
        return True
    return end.known_at < case.stopped_at or _ended_at(case, rank) < case.stopped_at


def _ended_at(case: _Ends, rank: int) -> float:
    """When a rank ended, by our clock."""
    end = case.ends[rank]
    if end.status is None or end.status.ended_at is None:
        return end.known_at
    return end.status.ended_at - case.launch.clock_offsets_s[rank]


def _order(case: _Ends, rank: int) -> tuple[bool, float]:
    return (_SECONDARY.search(last_words(case.ends[rank].log)) is not None, _ended_at(case, rank))


def _outcome(case: _Ends, rank: int, root: int | None, own: Sequence[int]) -> Outcome[JobStatus]:
    node, end = case.launch.jobs[rank].node, case.ends[rank]
    if end.ok:
        return Outcome(node, "ok", end.status)
    error = end.error or cast(JobStatus, end.status).failure()
    assert error is not None, "a status that is not ok has a failure"
    if end.status is None:  # a node that refuses us says nothing about the rank that ran there
        return Outcome(node, "unknown", None, error)
    if rank == root and error.outcome == "failed":
        return Outcome(node, "failed", end.status, _launch_failed(case, rank, own))
    if rank in own or not end.status.ended:  # what was told to stop, but is not known to have ended
        return Outcome(node, error.outcome, end.status, error)
    why = "stopped by us" if root is None else f"stopped because of {case.launch.jobs[root].node.name}"
    return Outcome(node, "cancelled", end.status, Cancelled(node.name, why))


def _launch_failed(case: _Ends, rank: int, own: Sequence[int]) -> LaunchFailed:
    launch, end = case.launch, case.ends[rank]
    status = cast(JobStatus, end.status)
    name = launch.jobs[rank].node.name
    which, failed = f"node rank {rank} ({name})", worker_failure(end.log)
    if failed is not None:
        place = launch.placement.first_rank(rank) + failed.local_rank
        worker = f"status {failed.exit_code}" if failed.exit_code >= 0 else _signal_name(-failed.exit_code)
        which = f"rank {place} ({worker}) on {name} (node rank {rank}, local rank {failed.local_rank}) failed, its node"
    others = [other for other, seen in enumerate(case.ends) if other != rank and not seen.ok and other not in own]
    fate = f"; {len(others)} other node{'s' * (len(others) != 1)} stopped because of it" if others else ""
    evidence = last_words(end.log) or status.last_lines
    hint = next((hint for pattern, hint in _HINTS if pattern.search(evidence)), "")
    return LaunchFailed(
        name,
        f"run {launch.id} failed: {which} {status.how}{_after(status)}{fate}",
        hint or f"its whole log: ~/.asyncdeploy/jobs/{status.job.id}/log on {name}",
        evidence,
        launch_id=launch.id,
        node_rank=rank,
        status=status.exit_status,
        signal=status.signal,
        consequences=_consequences(case, rank, own),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or no signal at all
        return f"signal {number}"


def _after(status: JobStatus) -> str:
    if status.started_at is None or status.ended_at is None:
        return ""
    seconds = max(0.0, status.ended_at - status.started_at)
    minutes = int(seconds) // 60
    return f" after {minutes}m{int(seconds) % 60:02d}s" if minutes else f" after {seconds:.1f}s"


def _consequences(case: _Ends, root: int, own: Sequence[int]) -> tuple[str, ...]:
    """One line for all nodes that ended alike, with the time after the root cause."""
    groups: dict[str, list[int]] = {}
    for rank, end in enumerate(case.ends):
        if rank != root and not end.ok:
            groups.setdefault(_fate(case, rank, own), []).append(rank)
    lines = []
    for fate, ranks in groups.items():
        later = max(0.0, max(_ended_at(case, rank) for rank in ranks) - _ended_at(case, root))
        names = fold_names([case.launch.jobs[rank].node.name for rank in ranks])
        lines.append(f"{names} ({len(ranks)})  +{later:.1f}s  {fate}")
    return tuple(lines)


def _fate(case: _Ends, rank: int, own: Sequence[int]) -> str:
    end = case.ends[rank]
    if end.status is None or not end.status.ended:
        return "fate unknown" if end.error is None else f"fate unknown: {end.error.message}"
    if rank not in own:
        return "stopped by us"
    return end.status.how
