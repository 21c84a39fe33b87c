"""A stage that began ends once, whatever ends it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.remote.stage import Stage, stage
from asyncdeploy.values.errors import DeployError, TransferFailed
from asyncdeploy.values.events import StageFailed, StageFinished, StageStarted
from tests.support.remotes.shell_remote import ShellRemote


@pytest.fixture
def remote(tmp_path: Path) -> ShellRemote:
    return ShellRemote(tmp_path)


@pytest.mark.parametrize(
    "error,said",
    [
        (TransferFailed("here", "no room\nand more"), "no room"),
        (ValueError("not a number"), "ValueError: not a number"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "GeneratorExit: "),
    ],
)
def test_whatever_leaves_a_stage_ends_it(remote: ShellRemote, error: BaseException, said: str) -> None:
    with pytest.raises(type(error)), stage(remote, "push", "a folder"):
        raise error
    began, ended = remote.events
    assert isinstance(began, StageStarted)
    assert (began.stage, began.detail) == ("push", "a folder")
    assert isinstance(ended, StageFailed)
    assert (ended.stage, ended.error) == ("push", said)


def test_a_stage_that_ends_well_says_what_it_did(remote: ShellRemote) -> None:
    with stage(remote, "push") as ours:
        ours.detail = "= unchanged"
    ended = remote.events[-1]
    assert isinstance(ended, StageFinished)
    assert ended.detail == "= unchanged"


@pytest.mark.parametrize("first", [Stage.finish, lambda ours: ours.fail("no")])
def test_only_the_first_end_is_told(remote: ShellRemote, first: Callable[[Stage], None]) -> None:
    ours = Stage(remote, "env")
    first(ours)
    ours.finish()
    ours.fail("too late")
    assert len(remote.events) == 2


def test_an_observer_that_raises_at_the_end_is_told_no_other_end(remote: ShellRemote) -> None:
    told = []

    def emit(event: object) -> None:
        told.append(type(event))
        if isinstance(event, StageFinished):
            raise DeployError("here", "the screen is gone")

    remote.emit = emit  # type: ignore[method-assign]
    with pytest.raises(DeployError), stage(remote, "push"):
        pass
    assert told == [StageStarted, StageFinished]
