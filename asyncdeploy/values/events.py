"""What happened, as frozen events, and how one reads. Work never prints: it emits, observers show."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import attrs

from asyncdeploy.values.arguments import checked
from asyncdeploy.values.serialize import fields_to_plain
from asyncdeploy.values.words import clean, one_line, shown_line

CANCELLED = "cancelled"
"""The ``error`` of a stage that was stopped, by a person or because something else failed."""


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened on a node at a time (seconds since 1970, our clock).

    ``label`` names the command of a queue (``run_queue``) that it belongs to, "" elsewhere.
    """

    node: str
    at: float = attrs.field(factory=time.time)
    label: str = attrs.field(default="", converter=clean)

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain data, its type's name first: one line of NDJSON."""
        return {"event": type(self).__name__, **fields_to_plain(self), "at": self.at}


@attrs.frozen(kw_only=True)
class StageStarted(Event):
    """A stage began: "connect", "probe", "push", "env: <step>", "run", "start", "collect", ..."""

    stage: str
    detail: str = attrs.field(default="", converter=clean)


@attrs.frozen(kw_only=True)
class StageFinished(Event):
    """A stage ended well, after ``seconds``; detail says what it did ("= unchanged", "312 files, 3.1 MB")."""

    stage: str
    seconds: float
    detail: str = attrs.field(default="", converter=clean)


@attrs.frozen(kw_only=True)
class StageFailed(Event):
    """A stage ended badly; ``error`` is the error's first line."""

    stage: str
    seconds: float
    error: str = attrs.field(converter=clean)


@attrs.frozen(kw_only=True)
class OutputLine(Event):
    """One line that a command printed, without its line end; bytes that are no UTF-8 are replaced."""

    stream: Literal["stdout", "stderr"]
    text: str
    source: str = ""


@attrs.frozen(kw_only=True)
class BytesMoved(Event):
    """So much of a transfer is done; total is 0 while it is unknown."""

    stage: str
    done: int
    total: int = 0


@attrs.frozen(kw_only=True)
class Noted(Event):
    """Something a person should know that is no failure: what was overwritten, ignored, retried.

    A passing one is a sign of life, which the next one makes old.
    """

    text: str = attrs.field(converter=clean)
    passing: bool = False


Observer = Callable[[Event], None]
"""Takes each event as it happens, on the event loop: it must be quick. One that raises is shown no more of them."""


def describe(event: Event, *, colours: bool = False) -> str | None:
    """Return the event for people, without node and time; None for those that only a bar can show.

    What stands behind a first line is set in, so that none of it can be taken for another event. ``colours`` lets those
    of a line that a command printed pass.
    """
    text = _words(event, colours)
    if text is not None and event.label:
        text = f"[{one_line(event.label)}] {text}"
    return None if text is None else text.replace("\n", "\n    ")


def _words(event: Event, colours: bool) -> str | None:
    match event:
        case StageStarted(stage=stage, detail=detail):
            return clean(f"{stage} ..." + (f" {detail}" if detail else ""))
        case StageFinished(stage=stage, seconds=seconds, detail=detail):
            return clean(f"{stage} ok" + (f" {detail}" if detail else "") + f" {seconds:.1f}s")
        case StageFailed(stage=stage, seconds=seconds, error=error):
            return clean(f"{stage} failed after {seconds:.1f}s: {error}")
        case OutputLine(stream=stream, text=text):
            return f"{'|' if stream == 'stdout' else '!'} {shown_line(text, colours=colours)}"
        case Noted(text=text):
            return f"note: {text}"
    return None


@checked
def log_events(logger: logging.Logger | None = None) -> Observer:
    """Return an observer that logs each event: failures as warnings, output at DEBUG, the rest at INFO.

    Args:
        logger: None is the one called "asyncdeploy".
    """
    log = logger or logging.getLogger("asyncdeploy")

    def show(event: Event) -> None:
        if (text := describe(event)) is not None:
            level = logging.WARNING if isinstance(event, StageFailed) else logging.INFO
            log.log(logging.DEBUG if isinstance(event, OutputLine) else level, "%s %s", event.node, text)

    return show
