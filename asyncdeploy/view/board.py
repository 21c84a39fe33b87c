"""What a live view shows, worked out from the story: rows, their states, the worst first where not all fit. No I/O."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Literal

import attrs

from asyncdeploy.values.words import last_lines, one_line
from asyncdeploy.view.story import STEP, Bar, NodeStory, Story

Mood = Literal["good", "busy", "bad", "idle"]

ORDER = ("connect", "probe", "push", "env", "start", "run", "collect", "clean")
"""Phases as they follow each other; others stand behind, as they come."""
WORST = 15
"""Rows where not all fit: those that a person must look at; more is read by nobody."""
LINES = 5
"""Of what was said last."""
DONE = {"connect": "connected", "probe": "connected", "push": "pushed", "env": "ready", "start": "started"}
"""What a node is called whose last phase ended well; "done" after another one."""
MAX_CELL = 40


@attrs.frozen
class Cell:
    """A text of the table, and how it is meant."""

    text: str = ""
    mood: Mood = "idle"


@attrs.frozen
class Row:
    """A node: its rank in the order of the nodes, a cell for each phase, its state."""

    rank: int
    node: str
    cells: tuple[Cell, ...]
    state: Cell
    since: float


@attrs.frozen
class Board:
    """All that is to be seen.

    Attributes:
        head: how many nodes are how far.
        phases: the columns.
        rows: the nodes that are shown.
        more: how many are not shown, and how far those are; "" if all are shown.
        tail: what was said last, each line's mood beside it.
    """

    head: str
    phases: tuple[str, ...]
    rows: tuple[Row, ...]
    more: str
    tail: tuple[Cell, ...]


class Lines:
    """What was said last on any node, newest last."""

    def __init__(self) -> None:
        self._lines: deque[Cell] = deque(maxlen=LINES)

    def add(self, node: str, text: str, mood: Mood = "idle") -> None:
        """Take what was said; of several lines the last one."""
        if said := last_lines(text, 1):
            self._lines.append(Cell(one_line(f"{node} {said}"), mood))

    @property
    def newest(self) -> tuple[Cell, ...]:
        """The lines."""
        return tuple(self._lines)


def board_of(story: Story, lines: Lines, now: float, room: int) -> Board:
    """Return what is to be seen.

    Args:
        story: what happened.
        lines: what was said last.
        now: seconds since 1970.
        room: how many lines there are for the nodes.
    """
    phases = _phases(story)
    rows = [_row(rank, node, phases, now) for rank, node in enumerate(story.nodes.values())]
    states = Counter(row.state.text for row in rows)
    count = f"{len(rows)} node{'' if len(rows) == 1 else 's'}"
    head = ", ".join([count, *(f"{number} {state}" for state, number in states.items())])
    if len(rows) <= room:
        return Board(head, phases, tuple(rows), "", lines.newest)
    worst = sorted(rows, key=_badness)
    shown = worst[: min(WORST, max(1, room - 1))]
    return Board(head, phases, tuple(shown), _more(worst[len(shown) :]), lines.newest)


def _more(rows: Sequence[Row]) -> str:
    states = Counter(row.state.text for row in rows)
    if len(states) == 1:
        return f"and {len(rows)} more {rows[0].state.text}"
    return f"and {len(rows)} more: " + ", ".join(f"{number} {state}" for state, number in states.items())


def _badness(row: Row) -> tuple[int, float, int]:
    moods: tuple[Mood, ...] = ("bad", "busy", "idle", "good")
    return moods.index(row.state.mood), row.since, row.rank


def _phases(story: Story) -> tuple[str, ...]:
    seen = dict.fromkeys(
        bar.stage for node in story.nodes.values() for bar in node.bars if not bar.stage.startswith(STEP)
    )
    return (*(phase for phase in ORDER if phase in seen), *(phase for phase in seen if phase not in ORDER))


def _row(rank: int, node: NodeStory, phases: Sequence[str], now: float) -> Row:
    last = {bar.stage: bar for bar in node.bars if not bar.stage.startswith(STEP)}
    steps = [bar for bar in node.bars if bar.stage.startswith(STEP)]
    step = steps[-1] if steps and steps[-1].ended is None else None
    cells = tuple(_cell(last.get(phase), step if phase == "env" else None, now) for phase in phases)
    return Row(rank, node.name, cells, *_state(last))


def _cell(bar: Bar | None, step: Bar | None, now: float) -> Cell:
    if bar is None:
        return Cell()
    if bar.failed:
        return Cell(one_line(bar.why, MAX_CELL), "bad")
    if bar.ended is not None:
        short = bar.text if bar.text.startswith("=") or bar.stage == "probe" else ""
        return Cell(one_line(short, MAX_CELL) or f"ok {bar.seconds:.1f}s", "good")
    inner = step or bar
    words = [inner.stage.removeprefix(STEP) if step else "", inner.moved or f"{max(0.0, now - inner.began):.0f}s"]
    return Cell(one_line(" ".join(filter(None, words)), MAX_CELL), "busy")


def _state(last: dict[str, Bar]) -> tuple[Cell, float]:
    """Return how far a node is, and since when."""
    going = [bar for bar in last.values() if bar.ended is None]
    if going:
        bar = max(going, key=lambda bar: bar.began)
        return Cell(bar.stage, "busy"), bar.began
    ended = max((bar for bar in last.values() if bar.ended is not None), key=lambda bar: bar.ended or 0, default=None)
    if ended is None:
        return Cell("waiting"), 0.0
    if ended.failed:
        return Cell("failed", "bad"), ended.began
    mood: Mood = "idle" if ended.stage in ("connect", "probe") else "good"
    return Cell(DONE.get(ended.stage, "done"), mood), ended.ended or 0.0
