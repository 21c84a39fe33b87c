"""What a launch is at a moment, as its nodes tell it: LaunchStatus. Data; no I/O."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import attrs

from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.serialize import Pairs, PlainData, to_pairs
from asyncdeploy.values.shown.table import Described, Table
from asyncdeploy.values.words import one_line

LaunchState = Literal["RUNNING", "DONE", "FAILED", "LOST", "STOPPED", "UNKNOWN"]

SHOWN = 24
"""Characters of the nodes' names in a repr, which is a line of less than 120."""
ROWS = 40
"""Nodes that have a row each: a screen."""
NOT_ASKED = "it was not asked"
ALIVE = ("starting", "running", "orphaned")


@attrs.frozen(repr=False)
class LaunchStatus(Described, PlainData):
    """What a launch was when its nodes were asked; nobody watches over it because of that.

    Attributes:
        id: of the launch; ``find_launch`` takes it.
        nodes: the names of its nodes, in node rank order.
        ranks: what each node says of its rank's job, in that order; None where it did not answer or was not asked.
        silent: (node, why) of those.
        created_at / started_at / ended_at: seconds since 1970, the clock of the machine that launched; None where it
            has not started, or goes on, or nobody knows.
        attempt: how often it was started again.
        last_line: what its ranks printed last, or "".
    """

    id: str
    nodes: tuple[str, ...]
    ranks: tuple[JobStatus | None, ...]
    silent: Pairs = attrs.field(default=(), converter=to_pairs)
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 0
    last_line: str = ""

    def __attrs_post_init__(self) -> None:
        if len(self.ranks) != len(self.nodes) or not self.nodes:
            expected = f"one status for each of {len(self.nodes)} nodes was expected"
            raise ValueError(f"LaunchStatus ranks: {expected}, got {len(self.ranks)}")

    def __repr__(self) -> str:
        return f"LaunchStatus({self.id!r}, {self.words!r}, {one_line(fold_names(self.nodes), SHOWN)!r})"

    @classmethod
    def of(
        cls, launch: Launch, ranks: tuple[JobStatus | None, ...], silent: dict[str, str], last_line: str
    ) -> LaunchStatus:
        """Return the status of a launch from what its nodes said.

        Args:
            launch: the launch.
            ranks: in node rank order.
            silent: why a node has said nothing, by its name.
            last_line: what was printed last.
        """
        seen = [(rank, late) for rank, late in zip(ranks, launch.clock_offsets_s, strict=True) if rank is not None]
        starts = [rank.started_at - late for rank, late in seen if rank.started_at is not None]
        ends = [rank.ended_at - late for rank, late in seen if rank.ended_at is not None]
        return cls(
            id=launch.id,
            nodes=tuple(node.name for node in launch.nodes),
            ranks=ranks,
            silent=silent,
            created_at=launch.created_at,
            started_at=min(starts, default=None),
            ended_at=max(ends) if len(ends) == len(ranks) else None,
            attempt=len(launch.before),
            last_line=last_line,
        )

    @property
    def name(self) -> str:
        """What the launch is called."""
        return self.id.rpartition("-")[0]

    @property
    def root(self) -> JobStatus | None:
        """The rank that failed by itself, the first if there are several; None where none is known to have.

        ``wait_launch`` looks at what the ranks recorded too: it has the last word on who is to blame.
        """
        own = [rank for rank in self.ranks if rank is not None and _failed_by_itself(rank)]
        return min(own, key=lambda rank: rank.ended_at or 0.0, default=None)

    @property
    def state(self) -> LaunchState:
        """What it is as a whole; DONE only where every rank's exit status 0 was recorded.

        FAILED and LOST also while others still run: the launch cannot succeed any more. STOPPED: somebody asked it to
        end. UNKNOWN: none of those that answered runs, and others did not answer.
        """
        seen = [rank for rank in self.ranks if rank is not None and rank.state != "elsewhere"]
        states = Counter(rank.state for rank in seen)
        if self.root is not None:
            return "FAILED"
        if states["lost"]:
            return "LOST"
        if any(rank.ended and not rank.ok and rank.told_at is not None for rank in seen):
            return "FAILED"  # the others ended because of one that does not answer
        if self.running:
            return "RUNNING"
        if any(not rank.ok for rank in seen):
            return "STOPPED"
        return "UNKNOWN" if len(seen) < len(self.ranks) else "DONE"

    @property
    def running(self) -> int:
        """How many of its nodes' ranks are known to run."""
        return sum(rank is not None and rank.state in ALIVE for rank in self.ranks)

    @property
    def words(self) -> str:
        """The state as people read it: "RUNNING 8/8", "DONE 0", "FAILED 1", "FAILED KILL", "LOST 1/4"."""
        state, count = self.state, len(self.ranks)
        match state:
            case "RUNNING":
                return f"RUNNING {self.running}/{count}"
            case "DONE":
                return "DONE 0"
            case "FAILED" if self.root is not None:
                return f"FAILED {self.root.signal or self.root.exit_status}"
            case "LOST":
                return f"LOST {sum(rank is not None and rank.state == 'lost' for rank in self.ranks)}/{count}"
            case "UNKNOWN":
                known = sum(rank is not None and rank.ok for rank in self.ranks)
                return f"UNKNOWN {count - known}/{count}"
        return state

    def gist(self) -> str:
        """Return which launch it is, and its state."""
        return f"{self.id} {self.words}"

    def table(self) -> Table:
        """Return what a person is shown: the whole, and a row a node; of many, those that are alike share one."""
        reasons = dict(self.silent)
        rows = [
            (str(number), node, rank.how if rank is not None else f"nobody knows: {reasons.get(node, NOT_ASKED)}")
            for number, (node, rank) in enumerate(zip(self.nodes, self.ranks, strict=True))
        ]
        if len(rows) > ROWS:
            alike: dict[str, list[str]] = {}
            for _, node, how in rows:
                alike.setdefault(how, []).append(node)
            rows = [(str(len(names)), fold_names(names), how) for how, names in alike.items()]
        head = ("rank" if len(self.ranks) <= ROWS else "count", "node", "state")
        title = self.gist() + (f" (attempt {self.attempt + 1})" if self.attempt else "")
        return Table(title, head, tuple(rows), (self.last_line,) if self.last_line else ())


def _failed_by_itself(rank: JobStatus) -> bool:
    asked_to = (rank.stopped and not rank.timed_out) or rank.told_at is not None
    return rank.state in ("exited", "signalled") and not rank.ok and not asked_to
