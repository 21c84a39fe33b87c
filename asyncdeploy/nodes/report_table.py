"""A report as a table: a row a node with its state and the last line that it printed, or its error. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from asyncdeploy.nodes.ranges import fold_names
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.shown.table import Table, count, tally

ROWS = 40
"""Nodes that have a row each: a screen; of more, those that are alike share one."""
HINTS = 5

Row = tuple[str, str, Any, DeployError | None]
"""A node's name, its state, its value, its error."""


@runtime_checkable
class Summed(Protocol):
    """A value that says in one line what came of it: Completed, JobStatus, Deployment."""

    def gist(self) -> str:
        """Return that line."""
        ...


def report_table(rows: Sequence[Row]) -> Table:
    """Return the table of a report."""
    cells = [(name, state, error.message if error else _gist(value)) for name, state, value, error in rows]
    if len(cells) > ROWS:
        groups: dict[tuple[str, str], list[str]] = {}
        for name, state, said in cells:
            groups.setdefault((state, said), []).append(name)
        cells = [(f"{fold_names(names)} ({len(names)})", *alike) for alike, names in groups.items()]
    hints = dict.fromkeys(error.hint for *_, error in rows if error is not None and error.hint)
    title = f"{count(len(rows), 'node')}: {tally([state for _, state, *_ in rows])}" if rows else "no nodes"
    below = tuple(f"hint: {hint}" for hint in list(hints)[:HINTS])
    return Table(title, ("node", "state", "last line or error"), tuple(cells), below)


def _gist(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "; ".join(map(_gist, value)) or "none"
    return value.gist() if isinstance(value, Summed) else repr(value)
