"""A launch as data, good on any machine that can reach the nodes: Launch, LaunchLine; what of it changes: Attempts."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Literal, Self

import attrs

from asyncdeploy.launch.placement import Placement
from asyncdeploy.nodes.parse import Node, fold_names, node_ranks
from asyncdeploy.run.job import Job, check_job_id, new_job_id
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import Pairs, PlainData, not_plain, to_pairs
from asyncdeploy.values.shown.one_line import in_one_line, short
from asyncdeploy.values.shown.table import Described, Table, count
from asyncdeploy.values.words import shown_line

MAX_FILE_BYTES = 16 << 20
"""A launch of 10,000 nodes stays below it."""

_LAUNCH_ID = regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}-[a-z2-7]{8}\Z")

_MARK = regex(r"\[(?:local|default)([0-9]{1,5})\]:")
"""What rank_runner.py and torchrun's agent put before the lines of each of several ranks: its local rank."""


def new_launch_id(name: str) -> str:
    """Return a new id, "<name>-<8 base32>"; ValueError unless the name leaves room for a rank."""
    return check_launch_id(new_job_id(name))


def check_launch_id(launch_id: str) -> str:
    """Return ``launch_id``; ValueError unless it is "<name>-<8 base32>"."""
    if not _LAUNCH_ID.match(launch_id):
        raise ValueError(f"launch id {launch_id!r}: '<name>-<8 characters of a-z2-7>' was expected")
    return launch_id


def rank_job(launch_id: str, node: Node, node_rank: int, site: str, command: str, created_at: float) -> Job:
    """Return the job of one node rank; its id follows from the launch's, so it is known before anything starts."""
    name, _, suffix = launch_id.rpartition("-")
    job_name = f"{name}.{node_rank}"
    return Job(node, check_job_id(f"{job_name}-{suffix}"), job_name, site, command, created_at)


@attrs.define(eq=False)
class Attempts:
    """The one thing about a launch that changes: which of its attempts runs. Who watches over it writes that down here.

    Only a launch with a Restart has it, and only in the process that set it off: all of its handles there share it, so
    that the first one leads to the attempt that runs. It does not travel. A handle that was pickled, copied, saved or
    found on the nodes is good without, and nobody starts that launch again by it: two who did would start it twice.

    Attributes:
        current: the attempt that runs, or ran last; None before the first one.
        stopped: somebody here has stopped it: what ends then is no failure.
    """

    current: Launch | None = attrs.field(default=None, init=False, repr=False)
    stopped: bool = attrs.field(default=False, init=False)

    def begin(self, attempt: Launch) -> Launch:
        """Make this the attempt that runs, and return its handle."""
        self.current = attrs.evolve(attempt, attempts=self)
        return self.current

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return (type(None), ())


@attrs.frozen(repr=False)
class Launch(Described, PlainData):
    """Ranks that were set off together, detached: a handle.

    Attributes:
        id: "<name>-<8 base32>".
        jobs: one a node, in node rank order.
        placement: who runs what where.
        grace_s: seconds from TERM to KILL when it is stopped.
        workdirs: absolute folder on each node where its rank started; results are collected relative to it.
        clock_offsets_s: each node's clock minus that of the machine that launched, in seconds.
        created_at: seconds since 1970, the clock of the machine that launched.
        before: ids of its earlier attempts, the first one first.
        driver_env: what a driver finds the launch's engine by (RAY_ADDRESS); empty unless its ranks are an engine.
        attempts: which of them runs; None unless it has a Restart and was set off here. No part of what it is equal to,
            of its JSON or its pickle.
    """

    id: str = attrs.field(validator=lambda _self, _field, value: check_launch_id(value))
    jobs: tuple[Job, ...]
    placement: Placement
    grace_s: float = 5.0
    workdirs: tuple[str, ...] = ()
    clock_offsets_s: tuple[float, ...] = ()
    created_at: float = 0.0
    before: tuple[str, ...] = ()
    driver_env: Pairs = attrs.field(default=(), converter=to_pairs)
    attempts: Attempts | None = attrs.field(default=None, eq=False, repr=False, metadata=not_plain())

    def __attrs_post_init__(self) -> None:
        count = len(self.placement.places)
        given = (len(self.jobs), len(self.workdirs), len(self.clock_offsets_s))
        if given != (count, count, count):
            what = f"one job, workdir and clock offset for each of {count} nodes were expected"
            raise ValueError(f"Launch: {what}, got {given[0]}, {given[1]} and {given[2]}")
        if not self.grace_s >= 0:
            raise ValueError(f"Launch grace_s: 0 or more seconds were expected, got {self.grace_s!r}")

    def __repr__(self) -> str:
        said = [repr(self.id), f"nodes={short(fold_names(node.name for node in self.nodes))}"]
        said += [f"processes={self.placement.world_size}"]
        said += [f"attempt={len(self.before) + 1}"] if self.before else []
        said += [f"grace_s={self.grace_s:g}"] if self.grace_s != 5 else []
        return in_one_line("Launch", said)

    def table(self) -> Table:
        """Return what a person is shown: a row a node with its ranks, and where they meet."""
        plan = self.placement
        rows = []
        for place, job in zip(plan.places, self.jobs, strict=True):
            first = plan.first_rank(place.node_rank)
            ranks = f"{first}-{first + place.nproc - 1}" if place.nproc > 1 else f"{first}"
            rows.append((f"{place.node_rank}", place.node.name, ranks, f"{place.address} {place.interface}", job.id))
        what = f"launch {self.id}: {count(len(self.jobs), 'node')}, {count(plan.world_size, 'process', 'processes')}"
        below = [f"they meet at {plan.master_addr} port {plan.master_port}"]
        below += [f"before it: {', '.join(self.before)}"] if self.before else []
        return Table(what, ("node rank", "node", "ranks", "address", "job"), tuple(rows), tuple(below))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in node rank order."""
        return tuple(job.node for job in self.jobs)

    @property
    def ranks(self) -> dict[Node, int]:
        """The node rank of each node."""
        return node_ranks(self.nodes)

    @property
    def current(self) -> Launch:
        """The attempt that runs, or ran last: itself, unless it was restarted in this process."""
        return self.attempts.current or self if self.attempts is not None else self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the launch, its last attempt, to a file (0600), whole or not at all."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(self.current.to_dict(), file)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what ``save`` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no launch.
        """
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"{path}: a launch of at most {MAX_FILE_BYTES} bytes was expected, got a larger file")
        try:
            return cls.from_dict(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} holds no launch: {error}") from None


class LineRanks:
    """Tells whose the lines of a node are.

    Args:
        placement: of the launch.
        node_rank: the node.
    """

    def __init__(self, placement: Placement, node_rank: int) -> None:
        self._first = placement.first_rank(node_rank)
        self._count = placement.places[node_rank].nproc

    def rank_of(self, text: str) -> int | None:
        """Return the global rank that printed a line, None where that is not known."""
        # What a rank prints stands behind its mark: it cannot pass for another one.
        if mark := _MARK.match(text):
            local = int(mark[1])
            return self._first + local if local < self._count else None
        return self._first if self._count == 1 else None


@attrs.frozen
class LaunchLine(PlainData):
    """One line that a node of a launch printed.

    Attributes:
        node_rank / node: whose.
        text: as it came, without its line end, so not for a terminal (``shown`` is); bytes that are no UTF-8 are
            replaced.
        stream: "log" where stdout and stderr stand together, in the order in which they came.
        at: when it was printed, by the clock of the machine that launched, to a quarter of a second; of a line that
            has only just been printed, when it arrived here. Seconds since 1970.
        node_ranks: all that printed it alike, where lines are folded; else none.
        rank: the global rank whose line it is, as its node marks it ("[local3]:", "[default3]:"), or because its node
            has one rank only; None where that is not known, and of a line that several nodes printed alike.
    """

    node_rank: int
    node: str
    text: str
    stream: Literal["stdout", "stderr", "log"] = "log"
    at: float = 0.0
    node_ranks: tuple[int, ...] = ()
    rank: int | None = None

    def shown(self, *, colours: bool = False) -> str:
        """Return the text as it may go to a terminal: with its colours or without, everything else in it harmless."""
        return shown_line(self.text, colours=colours)
