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
    """A node: its rank in the order of the nodes (None where it has none), a cell for each phase, its state."""

    rank: int | None
    node: str
    cells: tuple[Cell, ...]
    state: Cell
    since: float

    @property
    def number(self) -> str:
        """The rank, for people."""
        return "" if self.rank is None else str(self.rank)


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


def board_of(story: Story, lines: Lines, now: float, room: int, nodes: Sequence[str] = ()) -> Board:
    """Return what is to be seen.

    Args:
        story: what happened.
        lines: what was said last.
        now: seconds since 1970.
        room: how many lines there are for the nodes.
        nodes: those that have ranks and are counted, by these names in this order; others (a bastion, a spare) stand
            below them. Empty: all, as they came.
    """
    phases = _phases(story)
    ranks = {name: rank for rank, name in enumerate(nodes or story.nodes)}
    rows = [_row(ranks.get(name), node, phases, now) for name, node in story.nodes.items()]
    if nodes:
        rows.sort(key=lambda row: len(ranks) if row.rank is None else row.rank)
    counted = [row for row in rows if row.rank is not None]
    states = Counter(row.state.text for row in counted)
    count = f"{len(counted)} node{'' if len(counted) == 1 else 's'}"
    head = ", ".join([count, *(f"{number} {state}" for state, number in states.items())])
    if len(rows) <= room:
        return Board(head, phases, tuple(rows), "", lines.newest)
    worst = sorted(rows, key=_badness)
    shown = worst[: min(WORST, max(1, room - 1))]
    return Board(head, phases, tuple(shown), _more(worst[len(shown) :]), lines.newest)


def _more(hidden: Sequence[Row]) -> str:
    rows = [row for row in hidden if row.rank is not None]
    if not rows:
        return ""
    states = Counter(row.state.text for row in rows)
    if len(states) == 1:
        return f"and {len(rows)} more {rows[0].state.text}"
    return f"and {len(rows)} more: " + ", ".join(f"{number} {state}" for state, number in states.items())


def _badness(row: Row) -> tuple[int, float, int]:
    moods: tuple[Mood, ...] = ("bad", "busy", "idle", "good")
    return moods.index(row.state.mood), row.since, -1 if row.rank is None else row.rank


def _phases(story: Story) -> tuple[str, ...]:
    seen = dict.fromkeys(
        bar.stage for node in story.nodes.values() for bar in node.bars if not bar.stage.startswith(STEP)
    )
    return (*(phase for phase in ORDER if phase in seen), *(phase for phase in seen if phase not in ORDER))


def _row(rank: int | None, node: NodeStory, phases: Sequence[str], now: float) -> Row:
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
