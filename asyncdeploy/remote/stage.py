"""A stage of the work on a node as events: its start, and its end however it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import attrs

from asyncdeploy.remote.transport import Remote
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import StageFailed, StageFinished, StageStarted


@attrs.define
class Stage:
    """A stage under way; what it sets as ``detail`` its end will say."""

    detail: str = ""


@contextmanager
def stage(remote: Remote, name: str, detail: str = "") -> Iterator[Stage]:
    """Emit StageStarted, then StageFinished or StageFailed: a stage that began always ends.

    Args:
        remote: whose observer is told.
        name: the stage ("probe", "env").
        detail: what the start says beside it.
    """
    node, start = remote.node.name, time.monotonic()
    remote.emit(StageStarted(node=node, stage=name, detail=detail))
    ours = Stage()
    try:
        yield ours
    except DeployError as error:
        remote.emit(StageFailed(node=node, stage=name, seconds=time.monotonic() - start, error=error.message))
        raise
    except anyio.get_cancelled_exc_class():
        remote.emit(StageFailed(node=node, stage=name, seconds=time.monotonic() - start, error="cancelled"))
        raise
    remote.emit(StageFinished(node=node, stage=name, seconds=time.monotonic() - start, detail=ours.detail))
