"""What happened on each node until now, put together from events: what every view shows, each in its own way."""

from __future__ import annotations

from collections import defaultdict, deque

import attrs

from asyncdeploy.values.events import (
    CANCELLED,
    BytesMoved,
    Event,
    Noted,
    OutputLine,
    StageFailed,
    StageFinished,
    StageStarted,
)

STEP = "env: "
"""What stands before the name of a part of an environment's making; all other stages are phases of their own."""
SENT, WHEEL, WHEELS = "env: send ", ".whl", "env: wheels"
"""An offline node is sent hundreds of wheels: they are one bar, with a count."""
KEPT_BARS = 400
"""Of a node; the oldest go. A deploy has ten, and a pool may serve a program that runs for weeks."""
KEPT_LINES = 50


@attrs.define(eq=False)
class Bar:
    """A stage of one node.

    Attributes:
        node / stage: whose, and which.
        began / ended: seconds since 1970; None while it goes on.
        failed: whether it ended badly.
        text: what its start said, then its end: its detail, or why it failed.
        done / total: bytes of a transfer; 0 where there is none, or its size is not known.
        count: how many stages it stands for.
        label: of the run that it belongs to, "" where nobody gave one.
    """

    node: str
    stage: str
    began: float
    ended: float | None = None
    failed: bool = False
    text: str = ""
    done: int = 0
    total: int = 0
    count: int = 1
    label: str = ""

    @property
    def is_step(self) -> bool:
        """Whether it is a part of another one."""
        return self.stage.startswith(STEP) and self.stage != WHEELS

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, (self.ended if self.ended is not None else self.began) - self.began)

    @property
    def why(self) -> str:
        """Why it failed, without its own name in front."""
        return self.text.removeprefix(f"{self.stage} failed: ")

    @property
    def is_cancelled(self) -> bool:
        """Whether it was stopped, by a person or by something else that failed."""
        return self.failed and self.why == CANCELLED

    @property
    def moved(self) -> str:
        """How much of a transfer is done, for people; "" where nothing is known of one."""
        if self.total:
            return f"{self.done / 1e6:.1f}/{self.total / 1e6:.1f} MB"
        return f"{self.done / 1e6:.1f} MB" if self.done else ""


@attrs.define(eq=False)
class NodeStory:
    """One node: its bars in the order in which they began, and the last lines that were printed there."""

    name: str
    bars: deque[Bar]
    lines: deque[str] = attrs.field(factory=lambda: deque(maxlen=KEPT_LINES))
    sign: str = ""

    @property
    def open(self) -> list[Bar]:
        """What goes on, the outer ones first."""
        return [bar for bar in self.bars if bar.ended is None]


class Story:
    """All nodes, in the order in which they were first heard of; ``take`` it every event.

    Args:
        kept: how many bars of a node; None is all.
    """

    def __init__(self, kept: int | None = KEPT_BARS) -> None:
        self._kept = kept
        self.nodes: dict[str, NodeStory] = {}
        self._open: defaultdict[tuple[str, str, str], list[Bar]] = defaultdict(list)
        self._wheels: dict[str, _Wheels] = {}

    def node(self, name: str) -> NodeStory:
        """Return a node's story, begun if it is new."""
        return self.nodes.setdefault(name, NodeStory(name, deque(maxlen=self._kept)))

    def take(self, event: Event) -> list[Bar]:
        """Take an event; return the bars that ended with it."""
        node = self.node(event.node)
        match event:
            case StageStarted() | StageFinished() | StageFailed():
                return self._stage(node, event)
            case BytesMoved():
                self._move(event)
            case Noted(text=text, passing=True):
                node.sign = text
            case OutputLine(text=text):
                node.lines.append(text)
        return []

    def _stage(self, node: NodeStory, event: StageStarted | StageFinished | StageFailed) -> list[Bar]:
        if event.stage.startswith(SENT) and event.stage.endswith(WHEEL):
            return self._wheel(node, event)
        ended = self._end_wheels(node.name)
        node.sign = ""
        if isinstance(event, StageStarted):
            bar = Bar(node.name, event.stage, event.at, text=event.detail, label=event.label)
            node.bars.append(bar)
            self._open[node.name, event.stage, event.label].append(bar)
            return ended
        return [*ended, self._end(node, event)]

    def _end(self, node: NodeStory, event: StageFinished | StageFailed) -> Bar:
        bars = self._open[node.name, event.stage, event.label]
        if bars:
            bar = bars.pop(0)
        else:  # its start was before anybody looked
            bar = Bar(node.name, event.stage, event.at - event.seconds, label=event.label)
            node.bars.append(bar)
        if not bars:
            del self._open[node.name, event.stage, event.label]
        bar.ended, bar.failed = bar.began + event.seconds, isinstance(event, StageFailed)
        bar.text = event.error if isinstance(event, StageFailed) else event.detail
        return bar

    def _move(self, event: BytesMoved) -> None:
        if (wheels := self._wheels.get(event.node)) is not None and event.stage == wheels.stage:
            wheels.sending = event.done
            wheels.bar.done = wheels.sent + event.done
        elif bars := self._open.get((event.node, event.stage, event.label)):
            bars[-1].done, bars[-1].total = event.done, event.total

    # --- wheels ------------------------------------------------------------------------------

    def _wheel(self, node: NodeStory, event: StageStarted | StageFinished | StageFailed) -> list[Bar]:
        wheels = self._wheels.get(node.name)
        if wheels is None:
            wheels = self._wheels[node.name] = _Wheels(Bar(node.name, WHEELS, event.at, count=0))
            node.bars.append(wheels.bar)
        if isinstance(event, StageStarted):
            wheels.stage = event.stage
            return []
        wheels.bar.count += 1
        wheels.sent, wheels.sending = wheels.sent + wheels.sending, 0
        wheels.until = event.at
        if isinstance(event, StageFailed):
            wheels.bar.failed, wheels.bar.text = True, event.error
            return self._end_wheels(node.name)
        return []

    def _end_wheels(self, node: str) -> list[Bar]:
        wheels = self._wheels.pop(node, None)
        if wheels is None:
            return []
        bar = wheels.bar
        bar.ended, bar.done = max(bar.began, wheels.until), wheels.sent
        if not bar.failed:
            there = f"{bar.count} wheel{'' if bar.count == 1 else 's'}"
            bar.text = f"{there}, {bar.moved}" if bar.done else f"= {there} there already"
        return [bar]


@attrs.define(eq=False)
class _Wheels:
    """The wheels that a node is being sent."""

    bar: Bar
    stage: str = ""
    sent: int = 0
    sending: int = 0
    until: float = 0.0
