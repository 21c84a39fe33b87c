"""Blocking work in a thread that ends with the call which started it.

``anyio.to_thread`` lets go of its thread when the caller is cancelled natively: it would go on with descriptors that
were closed meanwhile, whose numbers are somebody else's by then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from asyncdeploy.tasks.finish import BACK_S, note_cancelled, outlast

T = TypeVar("T")


async def run_in_thread(
    work: Callable[[], T], *, stop: threading.Event | None = None, limiter: anyio.CapacityLimiter | None = None
) -> T:
    """Run blocking work in a thread of the loop's pool and return what it returned, or raise what it raised.

    Args:
        work: what is to be done. It owns what it opens: see below.
        stop: is set when the call is cancelled; long work looks at it between two steps.
        limiter: how many at once.

    On cancellation this waits for the work to end, for at most 5 s: a thread that hangs in the kernel is left alone,
    and closes what it has when it comes back.
    """
    task = asyncio.get_running_loop().create_task(anyio.to_thread.run_sync(work, limiter=limiter))
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError as error:
        note_cancelled(error)
        if stop is not None:
            stop.set()
        await outlast(task, BACK_S)
        if task.done() and not task.cancelled():
            task.exception()  # the cancellation outranks it
        raise
    return task.result()


async def run_abandonable(work: Callable[[], T]) -> T:
    """Run blocking work that nobody can stop, and that holds nothing of ours, in a thread that nobody waits for.

    On cancellation the thread is left alone; it does not keep the interpreter from ending (a look-up of a name does
    for as long as the resolver waits).
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(value: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)  # type: ignore[arg-type]  # of the call that ended well

    def run() -> None:
        value, problem = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            problem = error
        try:
            loop.call_soon_threadsafe(tell, value, problem)
        except RuntimeError:
            return  # the loop has ended, and whoever asked with it

    threading.Thread(target=run, name="asyncdeploy", daemon=True).start()
    return await answer
