"""An event loop without a world: its time is virtual, and one seed decides what is told apart by nothing else.

What asyncio promises is kept, as real code relies on it: `call_soon` is first in, first out for what belongs to one
task and for what belongs to none, and a timer is never early. All else is free and the seed's: which of the events of
the world (bytes that came, work of a thread that is done) comes first, how late the loop is for a timer, and, in half
of all seeds, which of several tasks that were woken runs first. The last is more than asyncio itself ever does; but
which task is woken first is the network's choice, so code of ours must not rely on it either.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

import attrs

LATE_S = 0.004
"""How late the loop may be for a timer, as one that is busy is: what is due by then comes in one turn."""
SPIN = 100_000
"""Handles without any time passing: then the loop is a busy one."""


@attrs.define(eq=False)
class Life:
    """What a process of the world is to the loop: when it has died, nothing of it runs any more.

    Attributes:
        held: what it would do, while it is stopped; None while it runs.
    """

    name: str
    is_dead: bool = False
    held: list[asyncio.Handle] | None = None


LIFE: ContextVar[Life | None] = ContextVar("simulator_life", default=None)
"""Whose process runs: the client's, or one of a node's."""


class Stuck(Exception):
    """Nothing will ever happen any more, or nothing but the same for ever."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        loop = self.get_loop()
        assert isinstance(loop, SimLoop)
        loop.tasks.append(self)
        context = kwargs.get("context")
        self.life = LIFE.get() if context is None else context.get(LIFE)
        self.number = len(loop.tasks)

    def __hash__(self) -> int:
        return getattr(self, "number", 0)

    __eq__ = object.__eq__


class SimFuture(asyncio.Future[Any]):
    """A future whose place in a set does not depend on where it lies in memory."""

    def __init__(self, number: int, loop: SimLoop) -> None:
        super().__init__(loop=loop)
        self.number = number

    def __hash__(self) -> int:
        return getattr(self, "number", 0)

    __eq__ = object.__eq__


class SimLoop(asyncio.BaseEventLoop):
    """The loop.

    Attributes:
        chance: the seed's.
        now: seconds since it began.
        ran: handles so far, by which an interleaving is named.
        tasks: all that were made.
    """

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.now = 0.0
        self.ran = 0
        self.tasks: list[SimTask] = []
        self.is_loose = chance.random() < 0.5
        self._since_time = self._futures = 0
        self._asked: dict[int, list[Callable[[], object]]] = {}
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]
        self.set_task_factory(self._make_task)

    def create_future(self) -> SimFuture:
        self._futures += 1
        return SimFuture(self._futures, self)

    def time(self) -> float:
        return self.now

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def after(self, handles: int, work: Callable[[], object]) -> None:
        """Do something between two handles, so many from now: as a signal or another task might."""
        self._asked.setdefault(self.ran + max(handles, 1), []).append(work)

    def hold(self, life: Life, seconds: float) -> None:
        """Stop a process as SIGSTOP does, and let it go on after a while."""
        if life.held is None:
            life.held = []
            self.call_later(seconds, self.go_on, life, context=Context())

    def go_on(self, life: Life) -> None:
        """Let it go on now."""
        held, life.held = life.held or [], None
        self._ready.extend(held)

    def _make_task(self, _loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> SimTask:
        return SimTask(coro, loop=self, **kwargs)

    def _run_once(self) -> None:
        due = self._due()
        if len(due) > 1 and self.chance.random() < 0.5:
            due = self._mixed(due)
        self._ready.extend(due)
        for _ in range(len(self._ready)):
            handle = self._next()
            life = handle._context.get(LIFE)  # type: ignore[attr-defined]
            if handle.cancelled() or (life is not None and (life.is_dead or life.held is not None)):
                if life is not None and life.held is not None:
                    life.held.append(handle)
                continue
            handle._run()
            self.ran += 1
            for work in self._asked.pop(self.ran, ()):
                work()
            if self._stopping:
                break

    def _due(self) -> list[asyncio.Handle]:
        scheduled = self._scheduled
        while scheduled and scheduled[0].cancelled():
            self._drop(scheduled)
        if not self._ready:
            if not scheduled:
                raise Stuck("nothing will ever happen any more, and the story is not over")
            late = self.chance.random() * LATE_S if self.chance.random() < 0.2 else 0.0
            if scheduled[0].when() + late > self.now:
                self._since_time, self.now = 0, max(self.now, scheduled[0].when() + late)
        self._since_time += len(self._ready) + 1
        if self._since_time > SPIN:
            raise Stuck(f"{SPIN} handles ran at {self.now:.3f} s, and no time passed")
        due: list[asyncio.Handle] = []
        while scheduled and scheduled[0].when() <= self.now:
            handle = self._drop(scheduled)
            if not handle.cancelled():
                due.append(handle)
        return due

    @staticmethod
    def _drop(scheduled: list[asyncio.TimerHandle]) -> asyncio.TimerHandle:
        handle = heapq.heappop(scheduled)
        handle._scheduled = False  # type: ignore[attr-defined]
        return handle

    def _mixed(self, due: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """Return what is due in another order; the timers of one process stay in theirs."""
        lanes: dict[object, deque[asyncio.Handle]] = {}
        for handle in due:
            lanes.setdefault(handle._context.get(LIFE) or handle, deque()).append(handle)  # type: ignore[attr-defined]
        mixed = []
        rest = list(lanes.values())
        while rest:
            lane = rest[self.chance.randrange(len(rest))]
            mixed.append(lane.popleft())
            if not lane:
                rest.remove(lane)
        return mixed

    def _next(self) -> asyncio.Handle:
        ready = self._ready
        if not self.is_loose or len(ready) < 2 or self.chance.random() < 0.5:
            return ready.popleft()
        place = self.chance.randrange(min(len(ready), 4))
        whose = _whose(ready[place])
        if any(_whose(ready[before]) is whose for before in range(place)):
            return ready.popleft()
        handle = ready[place]
        del ready[place]
        return handle

    def _write_to_self(self) -> None:
        """Nobody sleeps here."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled ones are dropped when their time comes."""


def _whose(handle: asyncio.Handle) -> object:
    """Return the task that a handle takes a step of, None for one of no task."""
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner if isinstance(owner, asyncio.Task) else None
