"""Blocking work in a thread that ends with the call which started it.

``anyio.to_thread`` lets go of its thread when the caller is cancelled natively: it would go on with descriptors that
were closed meanwhile, whose numbers are somebody else's by then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from asyncdeploy.tasks.finish import note_cancelled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_STOP: ContextVar[threading.Event | None] = ContextVar("asyncdeploy_stop", default=None)


async def run_in_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run blocking work in a thread of the loop's pool and return what it returned, or raise what it raised.

    On cancellation the work is told (``is_stopped``), and this returns when it has ended: what it uses may be closed
    then. Work is asked for in portions, or looks at ``is_stopped``, so that this is soon; a disk that hangs holds us as
    it holds any program.
    """
    stop = threading.Event()
    token = _STOP.set(stop)  # the thread works in a copy of this context
    try:
        task = asyncio.get_running_loop().create_task(anyio.to_thread.run_sync(work, *args))
    finally:
        _STOP.reset(token)
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError as error:
        note_cancelled(error)
        stop.set()
        await _ended(task)
        raise
    return task.result()


async def _ended(task: asyncio.Task[T]) -> None:
    """Wait for a task to its end, whatever cancels us meanwhile; what it gave or raised is of no use any more."""
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                continue  # the first one is on its way already
    if not task.cancelled():
        task.exception()


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
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(value: Any, error: Exception | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)

    def run() -> None:
        value, problem = None, None
        try:
            value = work(*args)
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            problem = error
        try:
            loop.call_soon_threadsafe(tell, value, problem)
        except RuntimeError:
            return  # the loop has ended, and whoever asked with it

    threading.Thread(target=run, name="asyncdeploy", daemon=True).start()
    return await answer
