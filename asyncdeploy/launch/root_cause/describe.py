"""A launch's failure in words: what happened, its consequences, all of it as people read it. No I/O."""

from __future__ import annotations

import signal
from collections.abc import Iterable

import attrs

from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import LaunchFailed


@attrs.frozen
class Consequence:
    """What became of a node, or of other ranks of the failing one: ``later_s`` after the root cause."""

    node: str
    later_s: float
    fate: str


def fold_consequences(found: Iterable[Consequence]) -> tuple[str, ...]:
    """Return one line for all nodes that ended alike, with the time after the root cause."""
    groups: dict[str, list[Consequence]] = {}
    for each in found:
        groups.setdefault(each.fate, []).append(each)
    lines = []
    for fate, alike in groups.items():
        later = max(0.0, *(each.later_s for each in alike))
        lines.append(f"{fold_names([each.node for each in alike])} ({len(alike)})  +{later:.1f}s  {fate}")
    return tuple(lines)


def exit_words(code: int) -> str:
    """Return an exit status in words: "status 3", "SIGKILL"; a shell tells a signal as a status above 128."""
    if code >= 0:
        told = f", {_signal_name(code - 128)} as a shell tells it" if 128 < code < 128 + 32 else ""
        return f"status {code}{told}"
    return _signal_name(-code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or no signal at all
        return f"signal {number}"


def after(status: JobStatus) -> str:
    """Return for how long a job ran, " after 4m12s", or "" where that is unknown."""
    if status.started_at is None or status.ended_at is None:
        return ""
    seconds = max(0.0, status.ended_at - status.started_at)
    minutes = int(seconds) // 60
    return f" after {minutes}m{int(seconds) % 60:02d}s" if minutes else f" after {seconds:.1f}s"


@checked
def describe_failure(error: LaunchFailed) -> str:
    """Return a launch's failure as people read it: what happened, root cause, consequences, hint.

    Args:
        error: of the node that was the cause.
    """
    return error.describe()
