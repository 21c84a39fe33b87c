"""What ends something goes ahead of what waits for something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_URGENT: ContextVar[bool] = ContextVar("asyncdeploy_urgent", default=False)


@contextmanager
def urgently() -> Iterator[None]:
    """Let calls in this block, and in tasks that it starts, go ahead of others: a stop never queues behind a wait."""
    token = _URGENT.set(True)
    try:
        yield
    finally:
        _URGENT.reset(token)


def is_urgent() -> bool:
    """Return whether we are in such a block."""
    return _URGENT.get()
