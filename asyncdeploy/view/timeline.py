"""What happened as one picture: an SVG with a row a node and a bar a phase, which any browser shows by itself."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from asyncdeploy.values.arguments import checked
from asyncdeploy.values.events import Event, Noted, StageFailed, StageFinished, StageStarted
from asyncdeploy.values.words import clean, one_line
from asyncdeploy.view.story import STEP, Bar, NodeStory, Story

WIDTH, MARGIN, ROW, BAR, STRIP = 1200, 12, 22, 16, 4
"""Of the picture, around it, a row, a bar in it, the strip of steps at a bar's foot; in pixels."""
LETTER = 7
"""Pixels that a letter takes, at the most."""
LONGEST_NAME = 28
TICKS = 10
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400)
"""Between two marks of the time's axis."""
THINNEST = 1.5
MOST_TITLE = 600
"""Letters of what is shown under the pointer."""

COLOURS = {
    "connect": "#8fb8de",
    "probe": "#5b8db8",
    "push": "#3b78c2",
    "env": "#8a63b8",
    "start": "#2f9e77",
    "run": "#3fa34d",
    "collect": "#d99a2b",
    "clean": "#7d8b99",
}
OTHERS = ("#4f9da6", "#b07aa1", "#9c755f", "#6b8e23")
FAILED, WAITED, OPEN = "#d0342c", "#d5d8dc", "#f0c36d"

_STYLE = """
text{font:12px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#222}
.title{font-weight:bold;font-size:14px}.axis{fill:#666}.grid{stroke:#e4e6e9;stroke-width:1}.bad{fill:#d0342c}
.in{fill:#fff;font-size:11px;pointer-events:none}.bar:hover{stroke:#222;stroke-width:1.5}
""".strip()


_PATTERN = (
    '<defs><pattern id="open" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<rect width="6" height="6" fill="{OPEN}"/><rect width="2" height="6" fill="#b8862f"/></pattern></defs>'
)


@checked
def timeline(events: Iterable[Event], *, title: str = "") -> str:
    """Return what happened as one SVG that needs nothing else: a row a node, a bar a phase, its text under the pointer.

    Steps of a phase are a strip at its foot. Waiting between phases is grey (not behind a start: its job runs), what
    failed is red, what had not ended is hatched. Rows stand in the order in which the nodes were first heard of.

    Args:
        events: of one run, as an observer saw them.
        title: what stands above it.
    """
    return _Picture(events, title).svg()


@checked
def write_timeline(path: Path | str, events: Iterable[Event], *, title: str = "") -> None:
    """Write ``timeline`` of events to a file.

    Args:
        path: the file; one that is there is replaced.
        events, title: as for ``timeline``.

    Raises:
        OSError: it cannot be written.
    """
    Path(path).write_text(timeline(events, title=title), encoding="utf-8")


@attrs.frozen
class _Axis:
    """Where a time stands in the picture."""

    begin: float
    end: float
    left: float

    def x(self, at: float) -> float:
        span = max(self.end - self.begin, 1e-3)
        return self.left + (WIDTH - MARGIN - self.left) * (min(max(at, self.begin), self.end) - self.begin) / span

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield where marks of the axis stand, and what they say."""
        span = self.end - self.begin
        step = next((each for each in STEPS_S if span / each <= TICKS), STEPS_S[-1] * math.ceil(span / 864000))
        for number in range(int(span / step) + 1):
            yield self.x(self.begin + number * step), _time(number * step)


class _Picture:
    def __init__(self, events: Iterable[Event], title: str) -> None:
        self._title = title
        self._story, self._notes, end = Story(None), list[Noted](), 0.0
        for event in events:
            if isinstance(event, StageStarted | StageFinished | StageFailed):
                self._story.take(event)
                end = max(end, event.at)
            elif isinstance(event, Noted) and not event.passing:
                self._notes.append(event)
        self._nodes = [node for node in self._story.nodes.values() if node.bars]
        bars = [bar for node in self._nodes for bar in node.bars]
        begin = min((bar.began for bar in bars), default=0.0)
        longest = max((len(node.name) for node in self._nodes), default=0)
        left = 2 * MARGIN + LETTER * min(longest, LONGEST_NAME)
        self._axis = _Axis(begin, max([begin, end, *(bar.ended or 0.0 for bar in bars)]), left)
        phases = dict.fromkeys(bar.stage for bar in bars if not bar.stage.startswith(STEP))
        others = [phase for phase in phases if phase not in COLOURS]
        more = {phase: OTHERS[at % len(OTHERS)] for at, phase in enumerate(others)}
        self._colours = {phase: colour for phase, colour in {**COLOURS, **more}.items() if phase in phases}

    def svg(self) -> str:
        """Return the picture."""
        top = MARGIN + 44
        height = top + ROW * len(self._nodes) + 24 + MARGIN
        size = f'width="{WIDTH}" height="{height}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size}>',
            f"<style>{_STYLE}</style>",
            _PATTERN,
            f'<rect {size} fill="#fff"/>',
            f'<text class="title" x="{MARGIN}" y="{MARGIN + 12}">{_safe(self._headline())}</text>',
            *self._legend(MARGIN + 26),
            *self._grid(top, height - MARGIN - 20),
        ]
        for number, node in enumerate(self._nodes):
            parts += self._row(node, top + ROW * number)
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _headline(self) -> str:
        count = f"{len(self._nodes)} node{'' if len(self._nodes) == 1 else 's'}"
        failed = sum(_is_failed(node) for node in self._nodes)
        words = [self._title, count, _time(self._axis.end - self._axis.begin), f"{failed} failed" if failed else ""]
        return " · ".join(filter(None, words))

    def _legend(self, y: int) -> Iterator[str]:
        x = MARGIN
        for name, fill in (
            *self._colours.items(),
            ("waiting", WAITED),
            ("failed", FAILED),
            ("not ended", "url(#open)"),
        ):
            yield f'<rect x="{x}" y="{y}" width="12" height="10" fill="{fill}"/>'
            yield f'<text class="axis" x="{x + 16}" y="{y + 9}">{_safe(one_line(name, LONGEST_NAME))}</text>'
            x += 16 + LETTER * (min(len(name), LONGEST_NAME) + 2)

    def _grid(self, top: int, bottom: int) -> Iterator[str]:
        for x, said in self._axis.ticks():
            yield f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'
            yield f'<text class="axis" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{said}</text>'

    # --- a node --------------------------------------------------------------------------------

    def _row(self, node: NodeStory, y: int) -> Iterator[str]:
        name = one_line(node.name, LONGEST_NAME)
        notes = [note.text for note in self._notes if note.node == node.name]
        mark = ' class="bad"' if _is_failed(node) else ""
        yield f'<text{mark} x="{MARGIN}" y="{y + 15}">{_safe(name)}{_title(node.name, *notes)}</text>'
        phases = sorted((bar for bar in node.bars if not bar.stage.startswith(STEP)), key=lambda bar: bar.began)
        at, is_running = self._axis.begin, False
        for bar in phases:
            if bar.began > at and not is_running:
                yield self._rect(at, bar.began, (y + 6, BAR - 6), WAITED, f"{node.name}: waited {bar.began - at:.1f}s")
            at = max(at, bar.ended if bar.ended is not None else self._axis.end)
            is_running = bar.stage == "start"  # what it started goes on: nobody waits for the next phase
        for bar in phases:
            yield from self._bar(bar, y + 3)
        for bar in node.bars:
            if bar.stage.startswith(STEP):
                end = bar.ended if bar.ended is not None else self._axis.end
                fill = FAILED if bar.failed else "#4a3070"
                yield self._rect(bar.began, end, (y + 3 + BAR - STRIP, STRIP), fill, *_said(bar))

    def _bar(self, bar: Bar, y: int) -> Iterator[str]:
        end = bar.ended if bar.ended is not None else self._axis.end
        fill = FAILED if bar.failed else "url(#open)" if bar.ended is None else self._colours[bar.stage]
        yield self._rect(bar.began, end, (y, BAR), fill, *_said(bar))
        wide = self._axis.x(end) - self._axis.x(bar.began)
        label = f"{bar.stage} {bar.seconds:.1f}s" if bar.ended is not None else bar.stage
        if wide > LETTER * (len(label) + 1):
            kind = "in" if bar.ended is not None else "axis"
            yield f'<text class="{kind}" x="{self._axis.x(bar.began) + 4:.1f}" y="{y + 11}">{_safe(label)}</text>'

    def _rect(self, begin: float, end: float, place: tuple[int, int], fill: str, *said: str) -> str:
        x, (y, high) = self._axis.x(begin), place
        wide = max(self._axis.x(end) - x, THINNEST)
        shape = f'class="bar" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{high}" fill="{fill}"'
        return f"<rect {shape}>{_title(*said)}</rect>"


def _is_failed(node: NodeStory) -> bool:
    """Return whether the last phase of a node that ended, ended badly."""
    ended = [bar for bar in node.bars if bar.ended is not None and not bar.stage.startswith(STEP)]
    return bool(ended) and max(ended, key=lambda bar: bar.ended or 0.0).failed


def _said(bar: Bar) -> Iterator[str]:
    how = "failed after" if bar.failed else "ok" if bar.ended is not None else "had not ended"
    label, seconds = f"[{bar.label}]" if bar.label else "", f"{bar.seconds:.1f}s" if bar.ended is not None else ""
    yield " ".join(filter(None, (f"{bar.node}:", label, bar.stage, how, seconds)))
    yield bar.why if bar.failed else bar.text


def _title(*said: str) -> str:
    return f"<title>{_safe(clean(chr(10).join(filter(None, said)), MOST_TITLE))}</title>"


def _safe(text: str) -> str:
    return html.escape(clean(text))


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g}s" if seconds == int(seconds) else f"{seconds:.1f}s"
    whole = round(seconds)
    hours = f"{whole // 3600}h" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60}m" + (f"{whole % 60:02}s" if whole % 60 else "")
