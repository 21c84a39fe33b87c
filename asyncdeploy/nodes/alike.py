"""Errors of many nodes in few lines: equal ones once, with the names of all whose they are. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from asyncdeploy.nodes.ranges import fold_names
from asyncdeploy.values.errors import DeployError, LaunchFailed
from asyncdeploy.values.regex import regex
from asyncdeploy.values.shown.table import count

CAUSES = ("failed", "unknown")
SHOWN = 8
"""Different errors that are shown of one fleet: two lines each, and the whole still fits a terminal."""
EVIDENCE_LINES = 5
_FATE = regex(r"; [0-9]+ other nodes? stopped because of it\Z")


@attrs.frozen
class Alike:
    """One error, and the nodes that have it; the first one's words."""

    error: DeployError
    nodes: tuple[str, ...]
    message: str
    hint: str

    @property
    def text(self) -> str:
        """Whose it is, and what happened: one line."""
        names = fold_names([name for name in self.nodes if name])
        message = _FATE.sub("", self.message)  # a launch says itself what the headline says
        return f"{names}: {message}" if names else message


def in_order(errors: Iterable[DeployError]) -> list[DeployError]:
    """Return errors with the root cause first: causes before what they did to others, else as they came."""
    return sorted(errors, key=lambda error: (not isinstance(error, LaunchFailed), error.outcome not in CAUSES))


def headline(errors: Sequence[DeployError], total: int) -> str:
    """Return how many of all nodes failed, and how many more did not do their work because of it."""
    causes = sum(error.outcome in CAUSES for error in errors)
    rest = len(errors) - causes
    if not causes:
        return f"{rest} of {count(total, 'node')} did not end: cancelled or not started"
    return f"{causes} of {count(total, 'node')} failed" + (f", {rest} stopped because of it" if rest else "")


def fold_errors(errors: Iterable[DeployError], hosts: Mapping[str, str]) -> list[Alike]:
    """Return errors with equal ones folded; what stopped because of others only where there is no cause.

    Args:
        errors: in order.
        hosts: the host of each node, by its name: errors that differ by it alone are equal.
    """
    every = list(errors)
    causes = [error for error in every if error.outcome in CAUSES]
    groups: dict[tuple[str, str, str], list[DeployError]] = {}
    for error in causes or every:
        words = [_without_names(text, error.node, hosts.get(error.node, "")) for text in (error.message, error.hint)]
        groups.setdefault((type(error).__name__, *words), []).append(error)  # type: ignore[arg-type]  # two words
    found = []
    for (_, message, hint), alike in groups.items():
        first = alike[0]
        if all(error.message == first.message for error in alike):
            message, hint = first.message, first.hint
        found.append(Alike(first, tuple(error.node for error in alike), message, hint))
    return found


def notes_of(alike: Sequence[Alike]) -> list[str]:
    """Return what stands below a headline that tells the first of these errors: its proof, its hint, the others."""
    if not alike:
        return []
    first, *others = alike
    if isinstance(first.error, LaunchFailed):
        lines = str(first.error).splitlines()[1:]
        others = []  # its own consequences say what became of the others
    else:
        lines = [f"  | {line}" for line in first.error.evidence.splitlines()[-EVIDENCE_LINES:]]
        lines += [f"hint: {first.hint}"] if first.hint else []
    hints = {first.hint}
    for each in others[: SHOWN - 1]:
        lines.append(each.text)
        if each.hint and each.hint not in hints:
            lines.append(f"hint: {each.hint}")
            hints.add(each.hint)
    if left := [name for each in others[SHOWN - 1 :] for name in each.nodes]:
        lines.append(f"and other errors of {count(len(left), 'node')}: print(error.report) has them all")
    return lines


def _without_names(text: str, node: str, host: str) -> str:
    for name, word in ((node, "<node>"), (host, "<host>")):
        text = text.replace(name, word) if name else text
    return text
