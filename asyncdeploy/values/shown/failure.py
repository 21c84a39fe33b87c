"""A launch's failure in words: what happened, root cause, consequences, hint. Text; no I/O."""

from __future__ import annotations

from typing import Protocol

from asyncdeploy.values.shown.table import count, line

WORDS = 3
"""Last lines of a log that are shown beside the exception and its place, which are read out of the same lines."""


FATES = 12
"""Lines of consequences: with the root cause above them a screen."""


class Failure(Protocol):
    """What is known of a launch that failed: a LaunchFailed."""

    node: str
    message: str
    hint: str
    evidence: str
    node_rank: int | None
    consequences: tuple[str, ...]
    rank: int | None
    local_rank: int | None
    world_size: int
    cause: str
    frames: tuple[str, ...]
    log: str


def failure_text(error: Failure) -> str:
    """Return a launch's failure as people read it."""
    where = f"ROOT CAUSE  {error.node}"
    if error.rank is not None:
        where += f", rank {error.rank} (node rank {error.node_rank}, local rank {error.local_rank})"
        where += f", first of {error.world_size}" if error.world_size > 1 else ""
    lines = [error.message, where] if error.node else [error.message]
    if error.cause:
        lines.append(f"  {error.cause}")
    if error.frames:
        lines.append(f"    {' -> '.join(error.frames)}")
    lines += _log_lines(error)
    if error.consequences:
        lines += ["CONSEQUENCES", *(f"  {each}" for each in error.consequences[:FATES])]
    if (more := len(error.consequences) - FATES) > 0:
        lines.append(f"  and {count(more, 'line')} more: error.consequences")
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(map(line, lines))


def _log_lines(error: Failure) -> list[str]:
    words = error.evidence.splitlines()
    if words and error.log:
        if error.cause and error.frames:
            words = words[-WORDS:]
        return [
            f"  last {count(len(words), 'line')} of its log (full: {error.log} on {error.node})",
            *(f"  {each}" for each in words),
        ]
    return [f"  {each}" for each in words]
