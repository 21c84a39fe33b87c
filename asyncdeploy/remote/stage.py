"""A stage of the work on a node as events: its start, and one end, however it comes.

Nobody else makes these events (a test of the house looks for that), so that no stage stays open on a screen for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from asyncdeploy.remote.transport import Remote
from asyncdeploy.tasks.progress import note_progress
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import CANCELLED, StageFailed, StageFinished, StageStarted


class Stage:
    """A stage under way: making one says that it began, the first ``finish`` or ``fail`` that it ended.

    Args:
        remote: whose observer is told.
        name: the stage ("probe", "env").
        start: what the start says beside it.

    Attributes:
        detail: what a good end will say beside it.
    """

    def __init__(self, remote: Remote, name: str, start: str = "") -> None:
        self.detail = ""
        self._remote = remote
        self._name = name
        self._began = time.monotonic()
        self._ended = False
        note_progress(f"{name} has begun")
        remote.emit(StageStarted(node=remote.node.name, stage=name, detail=start))

    def finish(self) -> None:
        """Say that it ended well; nothing where its end was told already."""
        if not self._ended:
            self._ended, seconds = True, time.monotonic() - self._began
            node, name = self._remote.node.name, self._name
            note_progress(f"{name} is done")
            self._remote.emit(StageFinished(node=node, stage=name, seconds=seconds, detail=self.detail))

    def fail(self, why: str) -> None:
        """Say that it ended badly; nothing where its end was told already."""
        if not self._ended:
            self._ended, seconds = True, time.monotonic() - self._began
            node, name = self._remote.node.name, self._name
            self._remote.emit(StageFailed(node=node, stage=name, seconds=seconds, error=why))


@contextmanager
def stage(remote: Remote, name: str, start: str = "") -> Iterator[Stage]:
    """Give a stage that ends with the block: well, or badly with whatever leaves it, a cancellation too.

    Args:
        remote: whose observer is told.
        name: the stage ("probe", "env").
        start: what the start says beside it.
    """
    ours = Stage(remote, name, start)
    try:
        yield ours
    except BaseException as error:
        ours.fail(_why(error))
        raise
    ours.finish()


def _why(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    text = error.message if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]
