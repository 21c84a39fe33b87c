"""Many commands over few nodes, so many at a time on each: run_queue. What a lost node had goes to another."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, by_node, run_in_project
from asyncdeploy.fleet.arguments import lent_pool
from asyncdeploy.fleet.slots import slot_count, slot_env, visible_words
from asyncdeploy.nodes.node import Node
from asyncdeploy.nodes.report import Outcome, judge
from asyncdeploy.remote.stage import stage
from asyncdeploy.tasks.finish import BACK_S, note_cancelled, outlast
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, Completed, as_command
from asyncdeploy.values.errors import (
    Abandoned,
    AuthError,
    ConnectError,
    ConnectionLost,
    DeployError,
    HostKeyError,
    NoShell,
    Skipped,
    WorkFailed,
)
from asyncdeploy.values.events import Noted
from asyncdeploy.values.observing import labelled
from asyncdeploy.values.words import one_line

TRIES = 3
"""Nodes that may be lost under one command: it may be the command that takes them down."""

LOST = (ConnectionLost, ConnectError, AuthError, HostKeyError, NoShell)
"""The node's fault, or the network's, and not the command's."""

Commands = Mapping[str, Command | str] | Iterable[Command | str]


@attrs.frozen(repr=False)
class QueueOutcome(Outcome[Completed]):
    """What became of one command of a queue.

    Attributes:
        number: its place in the queue, from 0.
        label: its name there, or its number; its events bear it.
        slot: where on the node it ran.
        lost_on: the names of nodes that were lost while they had it; what it did there is unknown.
    """

    number: int = 0
    label: str = ""
    slot: int = 0
    lost_on: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"QueueOutcome({one_line(self.label, 24)!r}, {self.state!r}, {self.node.name[:24]!r}, slot={self.slot})"


@checked
async def run_queue(
    deployments: Iterable[Deployment], commands: Commands, *, per_node: int | None = 1, pool: Pool | None = None
) -> AsyncGenerator[QueueOutcome, None]:
    """Run many commands in deployed projects, so many at a time on each node, and give each outcome as it comes.

    ``async for done in run_queue(deployments, commands, per_node=2): print(done.label, done.state)``

    A command finds the number of its slot, from 0, as ASYNCDEPLOY_SLOT, and where its node has GPUs one of them, by the
    slot's number, as CUDA_VISIBLE_DEVICES; a value of its own wins.

    Args:
        deployments: the project on its nodes.
        commands: in the order in which they begin; a mapping names them, else each has its number for a name.
        per_node: slots a node; None is the node's own slots (of a hostfile), else its GPUs, else 1.
        pool: the connections.

    Raises:
        ValueError: there is no deployment, or two commands would write one local file.

    A command that fails stops no other. One whose node is lost meanwhile is run again on another node, at most three
    times in all: on the lost one its leash ends it, which may take 90 s. On cancellation, and when the loop over it is
    left, all that runs is ended; with ``contextlib.aclosing`` around it a ``break`` waits for that.
    """
    ready = by_node(deployments)
    if not ready:
        raise ValueError("run_queue deployments: at least one was expected, got none")
    if per_node is not None and per_node < 1:
        raise ValueError(f"run_queue per_node: at least 1 was expected, got {per_node}")
    entries = _entries(commands)
    async with lent_pool(pool) as lent:
        queue = _Queue(lent, ready, entries, per_node)
        try:
            async for outcome in queue.outcomes():
                yield outcome
        except asyncio.CancelledError as error:
            await queue.stop(error)
            raise
        finally:
            await queue.stop()


@attrs.define(eq=False)
class _Entry:
    """A command that waits or runs, and who was lost with it."""

    number: int
    label: str
    command: Command
    lost: list[QueueOutcome] = attrs.field(factory=list)

    @property
    def lost_on(self) -> set[Node]:
        return {outcome.node for outcome in self.lost}

    def ended(self, outcome: Outcome[Completed], slot: int) -> QueueOutcome:
        lost_on = tuple(lost.node.name for lost in self.lost)
        fields = (outcome.node, outcome.state, outcome.value, outcome.error)
        return QueueOutcome(*fields, self.number, self.label, slot, lost_on)

    def given_up(self, outcome: Outcome[Completed], slot: int) -> QueueOutcome:
        """Return what became of it without a run that was seen to its end: unknown, if it ever began."""
        ended = self.ended(outcome, slot)
        return attrs.evolve(self.lost[0], lost_on=ended.lost_on) if self.lost else ended


def _entries(commands: Commands) -> list[_Entry]:
    named = commands if isinstance(commands, Mapping) else {str(number): each for number, each in enumerate(commands)}
    entries = [_Entry(number, label, as_command(each)) for number, (label, each) in enumerate(named.items())]
    writers: dict[str, _Entry] = {}
    for entry in entries:
        for path in (entry.command.stdout_to, entry.command.stderr_to):
            if path is not None and (other := writers.setdefault(os.path.realpath(path), entry)) is not entry:
                what = f"{path} would be written by {other.label} and by {entry.label}"
                raise ValueError(f"run_queue stdout_to: a file for each command was expected; {what}")
    return entries


class _Queue:
    """The commands of one call, who runs which, and what became of them."""

    def __init__(
        self, pool: Pool, ready: Mapping[Node, Deployment], entries: Sequence[_Entry], per_node: int | None
    ) -> None:
        self._pool = pool
        self._ready = ready
        self._per_node = per_node
        self._waiting = deque(entries)
        self._left = len(entries)  # without an outcome
        self._usable = set(ready)
        self._changed = asyncio.Condition()
        # Outcomes hold what commands printed, 2 MiB each: whoever takes them slowly holds the slots back.
        self._news: asyncio.Queue[QueueOutcome] = asyncio.Queue(max(1, len(ready)))
        self._tasks: list[asyncio.Task[None]] = []

    async def outcomes(self) -> AsyncGenerator[QueueOutcome, None]:
        """Begin, and give each outcome as it comes; whoever leaves early calls ``stop``."""
        count = self._left
        if count:
            self._begin(*(self._serve(node) for node in self._ready))
        for _ in range(count):
            yield await self._news.get()

    def _begin(self, *work: Coroutine[Any, Any, None]) -> None:
        self._tasks += [asyncio.get_running_loop().create_task(each, name="a queue's slot") for each in work]

    async def stop(self, error: BaseException | None = None) -> None:
        """End what runs, in the time that a cancelled call may take."""
        if error is not None:
            note_cancelled(error)
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            cancelled = await outlast(asyncio.gather(*running, return_exceptions=True), BACK_S)
            if cancelled is not None and error is None:
                raise cancelled

    async def _serve(self, node: Node) -> None:
        """Find out what a node's slots see, and begin them."""
        deployment = self._ready[node]
        try:
            words = await visible_words(self._pool.at(node), deployment)
        except DeployError as error:
            await self._give_up(node, error)
        except Exception as cause:  # noqa: BLE001 - as of a command
            await self._give_up(node, _slip(node, "asking for its GPUs", cause))
        else:
            count = slot_count(deployment, words, self._per_node)
            self._begin(*(self._slot(node, slot, slot_env(slot, words)) for slot in range(count)))

    async def _slot(self, node: Node, slot: int, env: Mapping[str, str]) -> None:
        while (entry := await self._next(node)) is not None:
            with labelled(entry.label):
                outcome = await self._run(node, entry.command.with_env(env))
                error = outcome.error
                if error is None or not isinstance(error, LOST) or isinstance(error, Abandoned):
                    await self._end(entry.ended(outcome, slot))
                    continue
                if isinstance(error, ConnectionLost):  # it ran, and nobody knows to what end
                    entry.lost.append(entry.ended(outcome, slot))
                if len(entry.lost) >= TRIES:
                    await self._end(entry.given_up(outcome, slot))
                    continue
                text = f"its command {entry.label} goes to another node: {error.message}"
                self._pool.at(node).emit(Noted(node=node.name, text=text))
            await self._put_back(entry, outcome, slot)
            if not isinstance(error, ConnectionLost):
                await self._give_up(node, error)

    async def _run(self, node: Node, command: Command) -> Outcome[Completed]:
        try:
            with stage(self._pool.at(node), "run") as ours:
                outcome = judge(Outcome(node, "ok", await run_in_project(self._pool, self._ready[node], command)))
                if outcome.error is not None:
                    ours.fail(outcome.error.message)
                return outcome
        except DeployError as error:
            return Outcome(node, error.outcome, getattr(error, "completed", None), error)
        except Exception as cause:  # noqa: BLE001 - a slip of ours is this command's failure, and no hang of all
            return Outcome(node, "failed", None, _slip(node, "running it", cause))

    async def _next(self, node: Node) -> _Entry | None:
        """Return the next command for a node, None when there will be none."""
        async with self._changed:
            while self._left and node in self._usable:
                for entry in self._waiting:
                    # Where it was lost before it is tried again only if nobody else is left.
                    if node not in entry.lost_on or self._usable <= entry.lost_on:
                        self._waiting.remove(entry)
                        return entry
                await self._changed.wait()
        return None

    async def _put_back(self, entry: _Entry, outcome: Outcome[Completed], slot: int) -> None:
        """Let another node have a command; where all were given up meanwhile, nobody would ever take it."""
        async with self._changed:
            if self._usable:
                self._waiting.appendleft(entry)
                self._changed.notify_all()
                return
        await self._end(entry.given_up(outcome, slot))

    async def _give_up(self, node: Node, error: DeployError) -> None:
        """Use a node no more; when none is left, what waits has no chance."""
        async with self._changed:
            self._usable.discard(node)
            left = [] if self._usable else list(self._waiting)
            if left:
                self._waiting.clear()
            self._changed.notify_all()
        for entry in left:
            why = Skipped(node.name, f"no node is left that could run it; the last one: {error.message}", error.hint)
            await self._end(entry.given_up(Outcome(node, "skipped", None, why), 0))

    async def _end(self, outcome: QueueOutcome) -> None:
        async with self._changed:
            self._left -= 1
            self._changed.notify_all()
        await self._news.put(outcome)


def _slip(node: Node, what: str, cause: Exception) -> WorkFailed:
    failure = WorkFailed(node.name, f"{what} raised {type(cause).__name__}: {cause}")
    failure.__cause__ = cause
    return failure
