"""What ranks print because others failed: held back from a terminal, where the cause would drown in it.

A node that dies leaves a hundred lines of tracebacks and summaries on those that were stopped because of it, and each
says no more than that a peer is gone. Only these are held back, only once it is known which node failed, and never that
node's own; what a rank says beside them (that it saved a checkpoint) is shown as it comes. ``logs`` has all of it.
"""

from __future__ import annotations

from collections import deque

import attrs

import asyncdeploy as ad
from asyncdeploy.launch.gang.watch import OTHERS_STOPPED
from asyncdeploy.values.regex import regex

MAX_HELD = 2000
"""Lines that are kept in case their node turns out to be the cause after all."""

_MARKS = regex(r"(?:\[(?:local|default)\d{1,5}\]:)?(?:\[rank\d{1,6}\]: ?)?")
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_RULE = regex(r"={20,}\s*\Z")
_AGENT = regex(r"[EW]\d{4} .*torch/distributed/elastic/")
_OUTSIDE, _TRACE, _RAISED, _TABLE = range(4)
"""Where a rank's output stands: nowhere in particular, in a traceback, behind its last line, in torchrun's summary."""


@attrs.define(eq=False)
class Echoes:
    """Takes the lines that are echoes of another node's failure.

    Attributes:
        failed: the node that was seen to fail first, "" while none was.
        count: lines that were taken.
        names: of the nodes that printed them.
    """

    failed: str = ""
    count: int = 0
    names: dict[str, None] = attrs.field(factory=dict)
    _held: deque[ad.LaunchLine] = attrs.field(factory=lambda: deque(maxlen=MAX_HELD))
    _states: dict[tuple[str, str], int] = attrs.field(factory=dict)

    def see(self, event: ad.Event) -> bool:
        """Learn from an event which node failed; it is shown by whoever shows events."""
        if isinstance(event, ad.Noted) and event.text.endswith(OTHERS_STOPPED) and not self.failed:
            self.failed = event.node
        return False

    def take(self, line: ad.LaunchLine, names: list[str]) -> bool:
        """Return whether a line is an echo, and so is kept back.

        Args:
            line: the line.
            names: of the nodes that printed it.
        """
        marks = _MARKS.match(line.text)
        mark = marks[0] if marks is not None else ""
        is_echo = False
        for name in names:  # lines that many print alike are one, and each has an order of its own
            place = name, mark
            self._states[place], is_echo = _next(self._states.get(place, _OUTSIDE), line.text[len(mark) :])
        if not (is_echo and self.failed) or self.failed in names:
            return False
        self.count += 1
        self.names |= dict.fromkeys(names)
        self._held.append(line)
        return True

    def of(self, node: str) -> list[ad.LaunchLine]:
        """Give back the lines of a node that was the cause, though another was seen to fail before it."""
        found = [line for line in self._held if line.node == node]
        self.count -= len(found)
        if found:
            self.names.pop(node)
        return found

    def told(self, run: str) -> str:
        """Return what to say of them, "" if there are none.

        Args:
            run: the launch, as it is named on a command line.
        """
        if not self.count:
            return ""
        what = f"{self.count} more lines of ranks that were stopped or lost their peers"
        return f"{ad.fold_names(sorted(self.names))}: {what}: asyncdeploy logs {run}"


def _next(state: int, text: str) -> tuple[int, bool]:
    """Return where a rank's output stands behind a line, and whether the line belongs to a failure."""
    if state == _TABLE:
        return (_OUTSIDE if _RULE.match(text) else _TABLE), True
    if text.startswith((_TRACEBACK, *_CHAINED)):
        return _TRACE, True
    if state == _RAISED and _RULE.match(text):
        return _TABLE, True
    if state == _TRACE:
        return (_TRACE if not text.strip() or text[0].isspace() else _RAISED), True
    if _AGENT.match(text):
        return _OUTSIDE, True
    is_between = state == _RAISED and not text.strip()
    return (_RAISED if is_between else _OUTSIDE), is_between
