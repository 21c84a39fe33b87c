"""What a piece of work was last seen to do, for who gives up waiting for it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import attrs

_PROGRESS: ContextVar[Progress | None] = ContextVar("asyncdeploy_progress", default=None)


@attrs.define
class Progress:
    """What was last said to begin or to end, and when, by the loop's clock."""

    text: str = ""
    at: float = 0.0


def track_progress() -> Progress:
    """Return what work of the present task, and of tasks that it starts, will say of itself."""
    progress = Progress()
    _PROGRESS.set(progress)
    return progress


def note_progress(text: str) -> None:
    """Say what begins or has ended; a short sentence without a node ("push has begun")."""
    if (progress := _PROGRESS.get()) is not None:
        progress.text, progress.at = text, asyncio.get_running_loop().time()


def last_seen(progress: Progress) -> str:
    """Return in words what was last seen, and how long ago."""
    if not progress.text:
        return "nothing was heard of it"
    return f"last seen: {progress.text}, {asyncio.get_running_loop().time() - progress.at:.1f} s before"
