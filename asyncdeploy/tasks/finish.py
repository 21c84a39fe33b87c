"""What must still be done when a call ends is done, whatever cancels the caller meanwhile, and in bounded time.

A shield of anyio holds off the scopes of anyio alone: ``Task.cancel``, ``asyncio.timeout``, ``wait_for`` and a failing
``TaskGroup`` of the caller go through it. A task of its own is reached by neither, so all that ends a run, closes a
channel or takes back a start goes through here, and ``shield=True`` stands nowhere else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import anyio

BACK_S = 5.0
"""A cancelled call is back within so many seconds: its layers share them, each takes of what those before have left."""
LEAST_S = 0.05
"""What the last layer has at least: to say goodbye without waiting for an answer."""

T = TypeVar("T")

_BACK_BY: ContextVar[float] = ContextVar("asyncdeploy_back_by", default=float("inf"))
"""When what runs in this context has to be done: a ``finish`` below another one has no more time than that."""


async def finish(work: Coroutine[Any, Any, T], within_s: float) -> T | None:
    """Run what must still be done to its end, also while the caller is cancelled, natively or by anyio.

    Args:
        work: what is to be done; it runs as a task of its own.
        within_s: what it may take; under a cancellation all calls together have ``BACK_S`` from its beginning.

    Returns:
        What the work returned; None if it took too long, and was cancelled.

    Raises:
        CancelledError: the caller was cancelled meanwhile; the work has ended by then.
        Exception: what the work raised.
    """
    loop = asyncio.get_running_loop()
    back_by = min(loop.time() + within_s, _BACK_BY.get(), _back_by(sys.exception()))
    context = copy_context()
    context.run(_BACK_BY.set, back_by)
    task = loop.create_task(work, context=context)
    task.add_done_callback(_read_error)
    cancelled = await outlast(task, max(LEAST_S, back_by - loop.time()))
    if not task.done():
        task.cancel()
        cancelled = await outlast(task, LEAST_S) or cancelled
    if cancelled is not None:
        raise cancelled
    return None if not task.done() or task.cancelled() else task.result()


async def outlast(task: asyncio.Future[Any], within_s: float) -> asyncio.CancelledError | None:
    """Wait for a task, whatever cancels us meanwhile, but no longer than a cancelled call may take.

    Returns:
        The first cancellation that came, which is the caller's to raise.
    """
    loop = asyncio.get_running_loop()
    until, cancelled = loop.time() + within_s, None
    # Without the scope's shield anyio would cancel us anew at each turn of the loop, and this would be a busy one.
    with anyio.CancelScope(shield=True):
        while not task.done() and (left := until - loop.time()) > 0:
            try:
                await asyncio.wait((task,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                until = min(until, _back_by(cancelled))
    return cancelled


def note_cancelled(error: BaseException) -> None:
    """Start the clock of a cancellation: for who has to wait for others before it finishes something itself."""
    _back_by(error)


def _back_by(error: BaseException | None) -> float:
    """Return when a call that is cancelled by this error must be back; the error carries when it was first seen."""
    if not isinstance(error, asyncio.CancelledError):
        return float("inf")
    seen_at = vars(error).setdefault("asyncdeploy_seen_at", asyncio.get_running_loop().time())
    return float(seen_at) + BACK_S


def _read_error(task: asyncio.Future[Any]) -> None:
    """Take note of an error that a cancellation outranks, or the loop would complain that nobody did."""
    if not task.cancelled():
        task.exception()
