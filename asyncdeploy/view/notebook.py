"""The board in a notebook's cell: HTML that is replaced in place, which every notebook can do by itself."""

from __future__ import annotations

import html
import importlib
import sys
from typing import Any

from asyncdeploy.view.board import Board, Cell, Mood

COLOURS: dict[Mood, str] = {"good": "#2a7d2a", "busy": "#a86400", "bad": "#c0201c", "idle": "#777777"}
FONT = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px;line-height:1.4"


def in_notebook() -> bool:
    """Return whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookCell:
    """An output of the cell that runs, which is shown anew with each board."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, board: Board, elapsed: str) -> None:
        """Show a board in the place of the one before."""
        ipython = importlib.import_module("IPython.display")  # it is there: we run in its kernel
        shown = ipython.HTML(board_html(board, elapsed))
        if self._handle is None:
            self._handle = ipython.display(shown, display_id=True)
        else:
            self._handle.update(shown)


def board_html(board: Board, elapsed: str) -> str:
    """Return a board as HTML that needs nothing around it: no script, no style sheet."""
    names = ("rank", "node", *board.phases, "state")
    lines = [f'<div style="{FONT}"><div><b>{html.escape(board.head)}</b> {html.escape(elapsed)}</div>']
    lines.append('<table style="border-collapse:collapse;margin:4px 0">')
    lines.append("<tr>" + "".join(_column(name) for name in names) + "</tr>")
    for row in board.rows:
        cells = (Cell(row.number), Cell(row.node, "idle"), *row.cells, row.state)
        lines.append("<tr>" + "".join(map(_cell, cells)) + "</tr>")
    lines.append("</table>")
    lines += [_line(Cell(board.more))] if board.more else []
    return "\n".join([*lines, *map(_line, board.tail), "</div>"])


def _column(name: str) -> str:
    return f'<th style="text-align:left;padding:1px 14px 1px 0;font-weight:normal;opacity:.6">{html.escape(name)}</th>'


def _cell(cell: Cell) -> str:
    style = f"text-align:left;padding:1px 14px 1px 0;color:{COLOURS[cell.mood]}"
    return f'<td style="{style}">{html.escape(cell.text)}</td>'


def _line(cell: Cell) -> str:
    return f'<div style="white-space:pre;color:{COLOURS[cell.mood]}">{html.escape(cell.text)}</div>'
