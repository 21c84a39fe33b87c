"""Events as lines: what a log, a pipe and a terminal without a live view get."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

from asyncdeploy.values.arguments import checked
from asyncdeploy.values.events import Event, Noted, Observer, OutputLine, StageStarted, describe
from asyncdeploy.values.words import clean
from asyncdeploy.view.colours import may_colour
from asyncdeploy.view.story import STEP, WHEELS, Bar, Story

Shown = Literal["failures", "phases", "all"]

BEGIN_S = 5.0
"""A stage that has not ended by then is said to have begun: most end sooner, and one line says it all."""


@checked
def print_events(file: TextIO | None = None, *, show: Shown = "phases") -> Observer:
    """Return an observer that prints a line a node a phase: time, node, what it did, how long it took.

    That a phase began is only said where it has not ended 5 s later, and a failure that repeats itself once. Notes, and
    what commands print, are shown too.

    Args:
        file: where to; None is stderr, looked up at each line. Letters that it cannot write are spelled out.
        show: "phases"; "failures" for nothing else; "all" for the steps within a phase and what its tools print, too.
            The wheels that a node without internet is sent are one step.
    """
    return PlainView(file, show).see


class PlainView:
    """What ``print_events`` remembers: which stages have begun and not yet ended, and what fails again and again."""

    def __init__(self, file: TextIO | None, show: Shown) -> None:
        self._file = file
        self._show = show
        self._story = Story()
        self._begins: dict[Bar, asyncio.TimerHandle] = {}
        self._failing: dict[tuple[str, str], str] = {}
        self._error: Exception | None = None

    def see(self, event: Event) -> None:
        """Take an event, and print what there is to say of it."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error  # whoever calls us drops those that raise
        ended = self._story.take(event)
        for bar in ended:
            self._end(bar, event.at)
        if isinstance(event, StageStarted):
            self._begin(event.node)
        elif isinstance(event, OutputLine | Noted) and self._wants(event):
            text = describe(event, colours=may_colour(self._file or sys.stderr))
            self._print(event.at, event.node, text or "")

    def _wants(self, event: OutputLine | Noted) -> bool:
        if self._show == "phases":
            return not is_tool(event.source) if isinstance(event, OutputLine) else not event.passing
        return self._show == "all"

    def _begin(self, node: str) -> None:
        """Say later that the newest stage of a node began, unless it has ended by then."""
        bar = self._story.node(node).bars[-1]
        if bar in self._begins or self._show == "failures" or (bar.is_step and self._show != "all"):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # events that are shown again, long after: nobody waits for an end
            return
        self._begins[bar] = loop.call_later(BEGIN_S, self._later(bar))

    def _later(self, bar: Bar) -> Callable[[], None]:
        def say() -> None:
            del self._begins[bar]
            words = [_name(bar), "...", bar.text, bar.moved]
            try:
                self._print(bar.began + BEGIN_S, bar.node, " ".join(filter(None, words)))
            except Exception as error:  # noqa: BLE001 - the loop would complain of it and go on
                self._error = error

        return say

    def _end(self, bar: Bar, at: float) -> None:
        if (begin := self._begins.pop(bar, None)) is not None:
            begin.cancel()
        if bar.is_cancelled and (begin is not None or self._show == "failures") and self._show != "all":
            return  # nobody was told that it began, and whoever stopped it says why
        if not bar.failed and self._show == "failures":
            self._is_told(bar)
            return
        if bar.is_step and self._show != "all":
            return  # its phase says it
        if self._is_told(bar) and self._show != "all":
            return
        if bar.failed:
            text = f"{_name(bar)} failed after {bar.seconds:.1f}s: {bar.why}"
        else:
            text = " ".join(filter(None, (_name(bar), "ok", bar.text, f"{bar.seconds:.1f}s")))
        self._print(at, bar.node, clean(text).replace("\n", "\n    "))

    def _is_told(self, bar: Bar) -> bool:
        """Whether this node failed by these words before, and nothing came since: one that is off is tried for long."""
        key, why = (bar.node, _name(bar)), bar.why if bar.failed else ""
        before = self._failing.pop(key, "")
        if bar.failed:
            self._failing[key] = why
        return bool(why) and why == before

    def _print(self, at: float, node: str, text: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 10) % 10}"
        target = self._file or sys.stderr
        line = f"{clock} {node} {text}"
        if encoding := getattr(target, "encoding", None):
            line = line.encode(encoding, "backslashreplace").decode(encoding)
        print(line, file=target, flush=True)


def is_tool(source: str) -> bool:
    """Return whether a line was printed by what makes an environment, and not by somebody's own command."""
    return source == STEP.strip(": ") or source.startswith(STEP)


def _name(bar: Bar) -> str:
    stage = WHEELS.removeprefix(STEP) if bar.stage == WHEELS else bar.stage
    return f"[{bar.label}] {stage}" if bar.label else stage
