"""Who looks cannot harm the work: an observer that raises is dropped, after one warning."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CoroutineType

import attrs

from asyncdeploy.values.events import Event, Observer

_LABEL: ContextVar[str] = ContextVar("asyncdeploy_label", default="")


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Let the events of what is done in this block, and in tasks that it starts, bear a label."""
    token = _LABEL.set(label)
    try:
        yield
    finally:
        _LABEL.reset(token)


class Guard:
    """An observer, or none; whatever it does, emitting never fails.

    Args:
        observer: sees every event until it raises; None is nobody.
    """

    __slots__ = ("_observer",)

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer

    @property
    def looks(self) -> bool:
        """False if nobody looks (any more), so that no event needs to be made."""
        return self._observer is not None

    def emit(self, event: Event) -> None:
        """Show an event."""
        if self._observer is None:
            return
        if label := _LABEL.get():
            event = attrs.evolve(event, label=label)
        try:
            left: object = self._observer(event)  # an async one returns something
        # It is somebody else's program, whose own terminal may be gone. A CancelledError of a future that it looked at
        # is no cancellation of ours: that one comes at an await.
        except (Exception, asyncio.CancelledError, GeneratorExit) as error:  # noqa: BLE001
            self._drop(f"raised {type(error).__name__}: {error} ({_place(error)})")
            return
        if inspect.isawaitable(left):
            if isinstance(left, CoroutineType):
                left.close()
            self._drop("is async, and nobody awaits it: it must be a plain function")

    def _drop(self, why: str) -> None:
        self._observer = None
        text = f"the observer {why}; it is shown no more events, the work goes on"
        try:
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        except Warning:  # where warnings are errors they must not end the work either
            logging.getLogger("asyncdeploy").warning(text)


def _place(error: BaseException) -> str:
    """Return where in the observer it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}"
