"""The board on a terminal: drawn by rich, in place, whatever else is printed and however the window changes."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from asyncdeploy.view.board import Board, Mood, Row

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

STYLES: dict[Mood, str] = {"good": "green", "busy": "yellow", "bad": "bold red", "idle": "dim"}
SMALLEST = (20, 3)
"""Columns and lines of a window that says it has none, or fewer than a name takes."""
GAP = 2
"""Columns between two of the table."""


class Screen:
    """A terminal that a board is drawn on, always in the same place.

    While it is open, what is printed to stdout and stderr goes above the board.

    Args:
        file: the terminal.
        changed: called when something was printed above, so that the board must be drawn again.
    """

    def __init__(self, file: TextIO, changed: Callable[[], None]) -> None:
        from rich.console import Console

        self.file = file
        self.encoding = getattr(file, "encoding", None) or "ascii"
        self.is_plain = not self.encoding.lower().replace("-", "").startswith("utf")
        self._console: Console = Console(file=file, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._changed = changed
        self._drawn: list[int] = []
        self._above: list[_Above] = []

    def size(self) -> tuple[int, int]:
        """Return columns and lines of the window, as it is now."""
        try:
            found = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return 80, 24
        return max(found.columns, SMALLEST[0]), max(found.lines, SMALLEST[1])

    def room(self, tail: int) -> int:
        """Return how many lines there are for nodes beside a head, the columns' names and so many lines below."""
        return max(1, self.size()[1] - 1 - 2 - tail)

    def open(self) -> None:
        """Take what is printed and logged from now on: it goes above."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._above.append(_Above(name, stream, self))
                setattr(sys, name, self._above[-1])
        self._turn_log({id(above.stream): above for above in self._above})

    def close(self) -> None:
        """Give stdout and stderr back; the board stays as it was drawn last."""
        self._turn_log({id(above): above.stream for above in self._above})
        for above in reversed(self._above):
            if getattr(sys, above.name) is above:  # else somebody has put his own there meanwhile
                setattr(sys, above.name, above.stream)
            above.end()
        self._above.clear()
        self._drawn = []

    def _turn_log(self, streams: dict[int, Any]) -> None:
        """Let the log's handlers write elsewhere: each holds the stream that it was made with."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and id(handler.stream) in streams:
                handler.setStream(streams[id(handler.stream)])

    def draw(self, board: Board, elapsed: str) -> None:
        """Draw a board in the place of the one before."""
        from rich.segment import Segment, Segments

        columns, lines = self.size()
        options = self._console.options.update(width=columns - 1, height=None)
        drawn = [
            line
            for part in self._parts(board, elapsed, columns - 1)
            for line in self._console.render_lines(part, options, pad=False)
        ][: lines - 1]
        with self._console.capture() as captured:
            for line in drawn:
                self._console.print(Segments([*line, Segment.line()]), end="")
        text = self._erase(columns) + captured.get()
        self._drawn = [Segment.get_line_length(line) for line in drawn]
        self._write(text)

    def print_above(self, stream: TextIO, text: str) -> None:
        """Print lines of somebody else's where the board stands, which is drawn again below them."""
        self._write(self._erase(self.size()[0]))
        self._drawn = []
        stream.write(text)
        stream.flush()
        self._changed()

    def _write(self, text: str) -> None:
        self.file.write(text)
        self.file.flush()

    def _erase(self, columns: int) -> str:
        """Return what takes the drawn board away: a window that became narrower has broken its lines."""
        rows = sum(max(1, math.ceil(width / columns)) for width in self._drawn)
        return f"\r\x1b[{rows}A\x1b[J" if rows else ""

    # --- the parts ---------------------------------------------------------------------------

    def _parts(self, board: Board, elapsed: str, width: int) -> list[RenderableType]:
        from rich.text import Text

        table = self._table(board, width)
        # No wider than the table: a line as wide as the window is broken in two where that becomes narrower.
        measured = self._console.measure(table).maximum
        wide = min(width, max(measured, len(board.head) + GAP + len(elapsed)))
        head = Text(self._said(board.head)[: max(0, wide - len(elapsed) - 1)], style="bold", no_wrap=True)
        head.append(elapsed.rjust(wide - head.cell_len))
        parts: list[RenderableType] = [head, table]
        if board.more:
            parts.append(self._text(board.more, "idle"))
        return [*parts, *(self._text(cell.text, cell.mood) for cell in board.tail)]

    def _table(self, board: Board, width: int) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
        with_rank, shown = fitting(board, width)
        for name in (*(("rank",) if with_rank else ()), "node", *(board.phases[at] for at in shown), "state"):
            justify: Any = "right" if name == "rank" else "left"
            # The ellipsis is no letter of ASCII.
            table.add_column(name, no_wrap=True, overflow="crop" if self.is_plain else "ellipsis", justify=justify)
        for row in board.rows:
            cells = [self._text(row.cells[at].text, row.cells[at].mood) for at in shown]
            table.add_row(
                *((self._text(row.number, "idle"),) if with_rank else ()),
                self._text(row.node),
                *cells,
                self._text(row.state.text, row.state.mood),
            )
        return table

    def _text(self, text: str, mood: Mood | None = None) -> Text:
        from rich.text import Text

        overflow: Any = "crop" if self.is_plain else "ellipsis"
        return Text(self._said(text), style=STYLES[mood] if mood else "", no_wrap=True, overflow=overflow)

    def _said(self, text: str) -> str:
        """Return a text in letters that the terminal knows."""
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)


def fitting(board: Board, width: int) -> tuple[bool, tuple[int, ...]]:
    """Return whether there is room for ranks, and which phases' columns fit beside node and state.

    The early phases go first: most of them are over.
    """

    def widest(name: str, texts: list[str]) -> int:
        return max(map(len, [name, *texts])) + GAP

    rows: tuple[Row, ...] = board.rows
    fixed = widest("node", [row.node for row in rows]) + widest("state", [row.state.text for row in rows])
    rank = widest("rank", [])
    widths = [widest(phase, [row.cells[at].text for row in rows]) for at, phase in enumerate(board.phases)]
    room, first = width + GAP - fixed - rank, 0
    while first < len(widths) and sum(widths[first:]) > room:
        first += 1
    return room >= 0, tuple(range(first, len(widths)))


class _Above:
    """Stands for stdout or stderr while a board is drawn: whole lines go above it."""

    def __init__(self, name: str, stream: TextIO, screen: Screen) -> None:
        self.name = name
        self.stream = stream
        self._screen = screen
        self._begun = ""
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:  # the board is drawn in its own thread only
            return self.stream.write(text)
        whole, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._screen.print_above(self.stream, whole + newline)
        return len(text)

    def end(self) -> None:
        """Print what no line's end followed."""
        if self._begun:
            self.stream.write(self._begun)
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
