"""The live view: a table of the nodes that changes in place, on a terminal or in a notebook's cell; lines elsewhere."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from asyncdeploy.values.arguments import checked
from asyncdeploy.values.events import Event, Noted, OutputLine
from asyncdeploy.view.board import Board, Lines, board_of
from asyncdeploy.view.notebook import NotebookCell, in_notebook
from asyncdeploy.view.plain import PlainView, Shown
from asyncdeploy.view.story import Story
from asyncdeploy.view.terminal import Screen

DRAW_S = 0.1
"""Between two drawings: an event may come every millisecond, and nobody reads faster."""
SHARE = 10
"""A drawing takes one in so many seconds at the most: of a thousand nodes each takes 20 ms."""
TICK_S = 1.0
"""How often seconds are counted on, and a window that was resized is drawn again, where no event comes."""
NOTEBOOK_ROWS = 40
"""A cell grows with its table; a longer one hides what stands below it."""
INSTALL = "for a table that changes in place: pip install 'asyncdeploy[cli]'"


@checked
def live_view(file: TextIO | None = None, *, show: Shown = "phases") -> LiveView:
    """Return an observer that shows a table, a row a node, that changes in place; a context manager around the work.

        with ad.live_view() as view:
            async with ad.Pool(observer=view) as pool:
                ...

    Rows stand in the order in which the nodes began while they fit, else the 15 worst first; below them what was said
    last. Once ``view.nodes`` names those that are meant, only they have ranks, in that order, and are counted: a jump
    host stands below them. What is printed meanwhile goes above the table. In a notebook the table changes in its cell.
    Where ``file`` is no terminal (a pipe, a log), TERM is dumb or CI is set, and outside of ``with``, it is
    ``print_events``.

    Args:
        file: where to; None is stderr.
        show: what of the events is printed where there is no table, see ``print_events``.
    """
    return LiveView(file, show)


class LiveView:
    """What ``live_view`` returns.

    Attributes:
        nodes: names of those that have ranks and are counted, in their order; while it is empty all that is heard of.
    """

    def __init__(self, file: TextIO | None = None, show: Shown = "phases") -> None:
        self._file = file
        self._plain = PlainView(file, show)
        self.nodes: Sequence[str] = ()
        self._story = Story()
        self._lines = Lines()
        self._place: Screen | NotebookCell | None = None
        self._began = 0.0
        self._pause = DRAW_S
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._began = time.time()
        target = self._file or sys.stderr
        if in_notebook() and self._file is None:
            self._place = NotebookCell()
        elif target is not None and _can_move(target):
            if importlib.util.find_spec("rich") is None:
                print(INSTALL, file=target, flush=True)
            else:
                self._place = Screen(target, self._soon)
                self._place.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Draw the table a last time and leave it: what comes now is for lines. May be called again."""
        place, self._place = self._place, None
        if self._timer is not None:
            self._timer.cancel()
        try:
            if place is not None and self._story.nodes and self._error is None:
                self._draw(place)
        finally:
            if isinstance(place, Screen):
                place.close()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._place is None:
            self._plain.see(event)
            return
        if self._error is not None:
            error, self._error = self._error, None
            raise error  # whoever calls us drops those that raise
        for bar in self._story.take(event):
            if bar.failed and not bar.is_step:
                self._lines.add(bar.node, f"{bar.stage} failed: {bar.why.partition(chr(10))[0]}", "bad")
        if isinstance(event, OutputLine):
            mark = "|" if event.stream == "stdout" else "!"
            self._lines.add(event.node, f"{_label(event)}{mark} {event.text}")
        elif isinstance(event, Noted) and not event.passing:
            self._lines.add(event.node, f"{_label(event)}note: {event.text}")
        self._soon()

    def _soon(self, seconds: float | None = None) -> None:
        """Draw a little later, once for all that comes until then."""
        seconds = self._pause if seconds is None else seconds
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # events that are shown again, or what is printed between two loops
            if self._place is not None:
                self._draw(self._place)
            return
        if self._timer is not None and loop is self._loop:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._loop, self._timer = loop, loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._place is None:
            return
        try:
            self._draw(self._place)
        except Exception as error:  # noqa: BLE001 - the loop would complain of it and go on
            self._error = error
        else:
            self._soon(TICK_S)

    def _draw(self, place: Screen | NotebookCell) -> None:
        now, began = time.time(), time.monotonic()
        room = place.room(len(self._lines.newest)) if isinstance(place, Screen) else NOTEBOOK_ROWS
        board: Board = board_of(self._story, self._lines, now, room, self.nodes)
        place.draw(board, _clock(now - self._began))
        self._pause = max(DRAW_S, SHARE * (time.monotonic() - began))


def _can_move(file: TextIO) -> bool:
    """Return whether a file is a terminal on which a table can be drawn again in its place."""
    if os.environ.get("TERM", "") in ("", "dumb", "unknown") or os.environ.get("CI"):
        return False
    try:
        return file.isatty()
    except ValueError:  # it was closed
        return False


def _label(event: Event) -> str:
    return f"[{event.label}] " if event.label else ""


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
