"""Blocking work in a thread that ends with the call which started it.

``anyio.to_thread`` lets go of its thread when the caller is cancelled natively: it would go on with descriptors that
were closed meanwhile, whose numbers are somebody else's by then. And its threads keep the interpreter from ending where
the loop was torn down before it could end them, as by a third Ctrl-C.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from asyncdeploy.tasks.finish import note_cancelled
from asyncdeploy.tasks.workers import hand_over

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_STOP: ContextVar[threading.Event | None] = ContextVar("asyncdeploy_stop", default=None)


async def run_in_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run blocking work in a thread and return what it returned, or raise what it raised.

    On cancellation the work is told (``is_stopped``), and this returns when it has ended: what it uses may be closed
    then. Work is asked for in portions, or looks at ``is_stopped``, so that this is soon; a disk that hangs holds us as
    it holds any program.
    """
    async with anyio.to_thread.current_default_thread_limiter():
        stop, context = threading.Event(), copy_context()
        context.run(_STOP.set, stop)
        answer = _answer(lambda: context.run(work, *args))
        try:
            await asyncio.wait((answer,))
        except asyncio.CancelledError as error:
            note_cancelled(error)
            stop.set()
            await _ended(answer)
            raise
        return answer.result()


def _answer(work: Callable[[], T]) -> asyncio.Future[T]:
    """Begin work in a thread; the future gets what it returns or raises, if its loop still runs then."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(value: Any, problem: BaseException | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if problem is None:
            answer.set_result(value)
        elif isinstance(problem, StopIteration):  # which no future takes
            answer.set_exception(RuntimeError("work in a thread raised StopIteration"))
        else:
            answer.set_exception(problem)

    def run() -> Callable[[], object]:
        value, problem = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            problem = error
        return lambda: loop.call_soon_threadsafe(tell, value, problem)

    hand_over(run)
    return answer


async def _ended(answer: asyncio.Future[T]) -> None:
    """Wait for work to its end, whatever cancels us meanwhile; what it gave or raised is of no use any more."""
    with anyio.CancelScope(shield=True):
        while not answer.done():
            try:
                await asyncio.wait((answer,))
            except asyncio.CancelledError:
                continue  # the first one is on its way already
    if not answer.cancelled():
        answer.exception()


def stop_event() -> threading.Event:
    """Return what is set when nobody wants the work of this thread any more: for other threads that share it."""
    return _STOP.get() or threading.Event()


def is_stopped() -> bool:
    """Return whether nobody wants the work of this thread any more; False where nobody could tell."""
    return stop_event().is_set()


async def run_abandonable(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run blocking work that nobody can stop, and that uses nothing of ours, in a thread that nobody waits for.

    On cancellation the thread is left alone; it does not keep the interpreter from ending (a look-up of a name does
    for as long as the resolver waits).
    """
    return await _answer(lambda: work(*args))
