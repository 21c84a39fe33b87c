"""What ends something goes ahead of what waits for something, and may be told to lose its patience."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

_URGENT: ContextVar[bool] = ContextVar("asyncdeploy_urgent", default=False)
_PATIENCE: ContextVar[Patience | None] = ContextVar("asyncdeploy_patience", default=None)


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


class Patience:
    """A person's: ``lose`` it, and what is being ended with a grace, now or later, is ended without one.

    It holds for what is called in its block, and for tasks that begin there.
    """

    def __init__(self) -> None:
        self._lost = False
        self._ending: set[Callable[[], None]] = set()

    def __enter__(self) -> Self:
        self._token = _PATIENCE.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _PATIENCE.reset(self._token)

    def lose(self) -> None:
        """End all graces."""
        self._lost = True
        for hurry in tuple(self._ending):
            hurry()

    @contextmanager
    def heard(self, hurry: Callable[[], None]) -> Iterator[None]:
        """Have ``hurry`` called when it is lost, or at once if it is."""
        self._ending.add(hurry)
        try:
            if self._lost:
                hurry()
            yield
        finally:
            self._ending.discard(hurry)


@contextmanager
def hurried_by_a_person(hurry: Callable[[], None]) -> Iterator[None]:
    """Call ``hurry`` as soon as a person, if one is there, has lost the patience to wait for a grace."""
    patience = _PATIENCE.get()
    if patience is None:
        yield
        return
    with patience.heard(hurry):
        yield
