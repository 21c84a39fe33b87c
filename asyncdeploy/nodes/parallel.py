"""Many nodes at once, bounded, nobody's result lost: map_nodes for all of them, iter_nodes as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

import attrs

from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Outcome, Report, judge
from asyncdeploy.tasks.finish import BACK_S, note_cancelled, outlast
from asyncdeploy.tasks.progress import last_seen, track_progress
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import Cancelled, DeadlineExceeded, DeployError, Skipped, WorkFailed
from asyncdeploy.values.shown.uncaught import leave_out_ours, their_frames

T = TypeVar("T")

AT_ONCE = 32
"""Nodes worked on at a time: enough to fill a client's uplink, few enough to be kind to a login node."""
CALLS_AT_ONCE = 128
"""Nodes asked at the same time for what is a call or two: as many as a Pool connects to at once."""
PORTION = 32
"""Nodes whose work begins in one turn of the loop, however many at a time: a call that goes out takes half a
millisecond."""

Work = Callable[[Node], Awaitable[T]]
Nodes = str | Node | Iterable[str | Node]


@checked
async def map_nodes(
    nodes: Nodes,
    work: Work[T],
    *,
    at_once: int = AT_ONCE,
    stop_on_failure: bool = False,
    at_most_s: float | None = None,
    judged: bool = False,
) -> Report[T]:
    """Do the same work for many nodes and report what became of each.

    Args:
        nodes: the nodes, or what ``parse_nodes`` takes.
        work: called with each node.
        at_once: how many nodes are worked on at a time.
        stop_on_failure: after the first failure start no more nodes and cancel those under way.
        at_most_s: a node's own time, from when its work begins; a node that takes longer is cancelled and unknown, and
            left where its work is not back 5 s later.
        judged: take a value that says that it failed (a Completed that exited 3, a JobStatus) for a failure; else each
            value is taken as a success.

    Returns:
        One outcome a node, in the order given. An exception of one node never touches the others' results.

    On cancellation the work of every node is cancelled, then the cancellation goes on; ``partial_report`` finds in it
    what the nodes had given until then.
    """
    fleet = _Fleet(nodes, work, _Terms(at_once, at_most_s, judged, stop_on_failure))
    try:
        async for outcome in fleet.outcomes():
            if stop_on_failure and not outcome.ok:
                await fleet.stop()
    except asyncio.CancelledError as error:
        await fleet.stop(error)
        error.asyncdeploy_report = fleet.report()  # type: ignore[attr-defined]  # whoever cancelled us finds it here
        raise
    return fleet.report()


@checked
async def iter_nodes(
    nodes: Nodes, work: Work[T], *, at_once: int = AT_ONCE, at_most_s: float | None = None, judged: bool = False
) -> AsyncGenerator[Outcome[T], None]:
    """Do the same work for many nodes and give each outcome as it comes: ``async for outcome in iter_nodes(...)``.

    Args:
        nodes: the nodes, or what ``parse_nodes`` takes.
        work: called with each node.
        at_once: how many nodes are worked on at a time.
        at_most_s: a node's own time, from when its work begins; a node that takes longer is cancelled and unknown.
        judged: take a value that says that it failed for a failure.

    On cancellation, and when the loop over it is left, the work of the other nodes is cancelled; with
    ``contextlib.aclosing`` around it a ``break`` waits for that.
    """
    fleet = _Fleet(nodes, work, _Terms(at_once, at_most_s, judged))
    try:
        async for outcome in fleet.outcomes():
            yield outcome
    except asyncio.CancelledError as error:
        await fleet.stop(error)
        raise
    finally:
        await fleet.stop()


@checked
def partial_report(error: BaseException) -> Report[Any] | None:
    """Return what a call over many nodes had until it was cancelled, None if the error holds nothing of that kind.

    Args:
        error: the CancelledError of the call, or what came of it: the TimeoutError of ``asyncio.timeout``.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        report = getattr(found, "asyncdeploy_report", None)
        if isinstance(report, Report):
            return report
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return None


@attrs.frozen
class _Terms:
    """How the work of many nodes is done."""

    at_once: int
    at_most_s: float | None
    judged: bool
    stop_on_failure: bool = False

    def __attrs_post_init__(self) -> None:
        if self.at_once < 1:
            raise ValueError(f"at_once: at least 1 was expected, got {self.at_once}")
        if self.at_most_s is not None and not self.at_most_s > 0:
            raise ValueError(f"at_most_s: a number of seconds above 0 was expected, got {self.at_most_s!r}")


class _Fleet(Generic[T]):
    """The tasks of one call, a node each, and what became of them."""

    def __init__(self, nodes: Nodes, work: Work[T], terms: _Terms) -> None:
        self.nodes = parse_nodes(nodes)
        self._work = work
        self._terms = terms
        self._turns = asyncio.Semaphore(terms.at_once)
        self._ended: dict[Node, Outcome[T]] = {}
        self._news: asyncio.Queue[Outcome[T]] = asyncio.Queue()
        self._begun: set[Node] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False  # no more nodes are begun

    async def outcomes(self) -> AsyncGenerator[Outcome[T], None]:
        """Begin, and give each outcome as it comes; whoever leaves early calls ``stop``."""
        loop = asyncio.get_running_loop()
        for number, node in enumerate(self.nodes, 1):
            self._tasks.append(loop.create_task(self._one(node), name=f"work for {node.name}"))
            if number % PORTION == 0:
                await asyncio.sleep(0)
        for _ in self.nodes:
            yield await self._news.get()

    def report(self) -> Report[T]:
        """Return the outcomes in the order of the nodes."""
        return Report(tuple(self._ended.get(node) or self._unfinished(node) for node in self.nodes))

    async def stop(self, error: BaseException | None = None) -> None:
        """End what is under way, in the time that a cancelled call may take; begin nothing more."""
        if error is not None:
            note_cancelled(error)
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        cancelled = None
        if running:
            cancelled = await outlast(asyncio.gather(*running, return_exceptions=True), BACK_S)
        for node in self.nodes:  # work that does not heed its cancellation is left
            self._end(self._unfinished(node))
        if cancelled is not None and error is None:
            raise cancelled

    async def _one(self, node: Node) -> None:
        try:
            async with self._turns:
                if not self._over:
                    self._begun.add(node)
                    outcome = await _outcome(node, self._work, self._terms.at_most_s)
                    self._end(judge(outcome) if self._terms.judged else outcome)
        finally:
            self._end(self._unfinished(node))  # cancelled, by us or by itself; one that has ended stays as it is

    def _end(self, outcome: Outcome[T]) -> None:
        if outcome.node not in self._ended:
            # Decided here: the turn that this node leaves would otherwise begin another one first.
            self._over = self._over or (self._terms.stop_on_failure and not outcome.ok)
            self._ended[outcome.node] = outcome
            self._news.put_nowait(outcome)

    def _unfinished(self, node: Node) -> Outcome[T]:
        if node in self._begun:
            return Outcome(node, "cancelled", error=Cancelled(node.name, "stopped while it was under way"))
        return Outcome(node, "skipped", error=Skipped(node.name, "not started: another node had failed"))


async def _outcome(node: Node, work: Work[T], at_most_s: float | None) -> Outcome[T]:
    progress = track_progress()
    try:
        return Outcome(node, "ok", await (work(node) if at_most_s is None else _within(work(node), at_most_s)))
    except DeployError as error:
        leave_out_ours(error)
        value = getattr(error, "completed", None) or getattr(error, "collected", None)
        return Outcome(node, error.outcome, value, error)
    except _Late:
        late = DeadlineExceeded(node.name, f"not done within {at_most_s:g} s (at_most_s); {last_seen(progress)}")
        return Outcome(node, "unknown", error=late)
    except Exception as cause:  # noqa: BLE001 - nobody else's result may be lost by it
        failure = WorkFailed(node.name, f"the work for this node raised {type(cause).__name__}: {cause}")
        cause.__traceback__ = their_frames(cause.__traceback__) or cause.__traceback__
        failure.__cause__ = cause
        return Outcome(node, "failed", error=failure)


class _Late(Exception):
    """A node's own time is over."""


async def _within(work: Awaitable[T], at_most_s: float) -> T:
    """Do a node's work in its own time; work that does not heed its cancellation then is left, or all would wait."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_read_error)
    try:
        await asyncio.wait((task,), timeout=at_most_s)
    except asyncio.CancelledError as error:
        note_cancelled(error)
        task.cancel()
        await outlast(task, BACK_S)
        raise
    if task.done():
        return task.result()
    task.cancel()
    if (cancelled := await outlast(task, BACK_S)) is not None:
        raise cancelled
    if not task.done() or task.cancelled():
        raise _Late
    try:
        return task.result()  # it was done in that very moment
    except DeployError:
        raise
    except Exception as error:
        raise _Late from error


def _read_error(task: asyncio.Future[Any]) -> None:
    """Take note of an error for which nobody waits any more, or the loop would complain of it."""
    if not task.cancelled():
        task.exception()
