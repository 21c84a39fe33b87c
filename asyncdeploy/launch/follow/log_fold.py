"""Lines that many nodes print alike, given once: LineFolder. Decisions only; it waits for nothing. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from asyncdeploy.launch.launch import LaunchLine

MAX_WAITING = 1000
"""Groups that wait for nodes which may still print the same; more are given as they are."""


@attrs.define(eq=False)
class _Group:
    """A line, who printed it so far, and when it came first."""

    line: LaunchLine
    ends: dict[int, int]
    since: float


class LineFolder:
    """Holds each line back for a while, and gives those that many nodes printed alike as one.

    The lines of a node keep their order. A line waits at most ``wait_s``, and not at all once every node that still
    prints has printed it.

    Args:
        node_ranks: all that print.
        wait_s: seconds.
    """

    def __init__(self, node_ranks: Iterable[int], wait_s: float) -> None:
        self._printing = set(node_ranks)
        self._wait_s = wait_s
        self._groups: list[_Group] = []

    def add(self, line: LaunchLine, end: int, now: float) -> None:
        """Take a line, and the byte of its node's log at which it ends."""
        groups, rank = self._groups, line.node_rank
        for place, group in enumerate(groups):
            if rank not in group.ends and group.line.text == line.text and group.line.stream == line.stream:
                ours = self._ours_behind(place, rank)
                if ours is not None:
                    for own in ours:
                        groups.remove(own)
                        own.since = min(own.since, group.since)
                    groups[place:place] = ours
                    group.ends[rank] = end
                    return
        place = max((at for at, group in enumerate(groups) if rank in group.ends), default=-1) + 1
        # What stands behind it waits no longer because of it.
        since = groups[place].since if place < len(groups) else now
        groups.insert(place, _Group(line, {rank: end}, since))

    def _ours_behind(self, place: int, rank: int) -> list[_Group] | None:
        """Return a node's groups behind a place, None if they cannot all stand before it: others keep their order."""
        ours: list[_Group] = []
        passed: set[int] = set()
        for group in self._groups[place:]:
            if rank not in group.ends:
                passed |= set(group.ends)
            elif passed.isdisjoint(group.ends):
                ours.append(group)
            else:
                return None
        return ours

    def ended(self, node_rank: int) -> None:
        """Wait for this node no longer."""
        self._printing.discard(node_rank)

    def due(self) -> float:
        """Return when ``take`` has the next line although nodes are missing; infinity while nothing waits."""
        return self._groups[0].since + self._wait_s if self._groups else float("inf")

    def take(self, now: float, *, final: bool = False) -> tuple[LaunchLine, dict[int, int]] | None:
        """Return the next line and where each node's log is behind it, None while it has to wait."""
        if not self._groups:
            return None
        group = self._groups[0]
        whole = self._printing <= set(group.ends)
        if not (final or whole or now >= self.due() or len(self._groups) > MAX_WAITING):
            return None
        del self._groups[0]
        rank = group.line.rank if len(group.ends) == 1 else None
        return attrs.evolve(group.line, node_ranks=tuple(sorted(group.ends)), rank=rank), group.ends
