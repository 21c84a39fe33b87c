"""Events as lines: one a node a phase, as few as tell everything; and the README's launch on four nodes."""

import asyncio
import io
import os
import pty
import re
from pathlib import Path

import pytest

from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.launch import fan_out, wait_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.values.events import (
    BytesMoved,
    Event,
    Noted,
    Observer,
    OutputLine,
    StageFailed,
    StageFinished,
    StageStarted,
)
from asyncdeploy.view import plain
from asyncdeploy.view.plain import Shown, print_events
from tests.support.envs import write_project
from tests.support.waiting import eventually

AT = 1_700_000_000.0


def phase(stage: str, seconds: float = 1.0, detail: str = "", at: float = AT, node: str = "n1") -> list[Event]:
    """A stage that begins and ends well."""
    return [
        StageStarted(node=node, stage=stage, at=at),
        StageFinished(node=node, stage=stage, seconds=seconds, detail=detail, at=at + seconds),
    ]


def told(events: list[Event], show: Shown = "phases") -> list[str]:
    """What is printed of events, without the time."""
    screen = io.StringIO()
    observer = print_events(screen, show=show)
    for event in events:
        observer(event)
    return [re.sub(r"^\d\d:\d\d:\d\d\.\d ", "", line) for line in screen.getvalue().splitlines()]


DEPLOY: list[Event] = [
    StageStarted(node="n1", stage="probe", at=AT),
    *phase("connect", 0.3),
    StageFinished(node="n1", stage="probe", seconds=0.5, detail="2 CPUs, uv", at=AT),
    *phase("push", 3.0, "312 files, 3.1 MB"),
    StageStarted(node="n1", stage="env", detail="uv", at=AT),
    *phase("env: uv sync", 9.0),
    OutputLine(node="n1", stream="stdout", text="Resolved 3 packages", source="env: uv sync", at=AT),
    Noted(node="n1", text="env: uv sync: still running, 20 s", passing=True, at=AT),
    *phase("env: switch", 0.1),
    StageFinished(node="n1", stage="env", seconds=9.2, detail="2 steps", at=AT),
    Noted(node="n1", text="careful", at=AT),
    OutputLine(node="n1", stream="stdout", text="loss 2.31", at=AT),
]


def test_one_line_a_phase() -> None:
    assert told(DEPLOY) == [
        "n1 connect ok 0.3s",
        "n1 probe ok 2 CPUs, uv 0.5s",
        "n1 push ok 312 files, 3.1 MB 3.0s",
        "n1 env ok 2 steps 9.2s",
        "n1 note: careful",
        "n1 | loss 2.31",
    ]


def test_a_node_that_is_off_fails_once() -> None:
    off: list[Event] = [StageFailed(node="n1", stage="connect", seconds=0, error="refused", at=AT)]
    other: list[Event] = [StageFailed(node="n1", stage="connect", seconds=0, error="silent", at=AT)]
    events = [*off * 3, *other, *off * 2, *phase("connect"), *off]
    refused, silent = "n1 connect failed after 0.0s: refused", "n1 connect failed after 0.0s: silent"
    assert told(events) == [refused, silent, refused, "n1 connect ok 1.0s", refused]
    assert told(events, "failures") == [refused, silent, refused, refused]
    assert len(told(events, "all")) == 8


def test_all_has_steps_and_tool_output() -> None:
    lines = told(DEPLOY, "all")
    assert "n1 env: uv sync ok 9.0s" in lines
    assert "n1 | Resolved 3 packages" in lines
    assert "n1 note: env: uv sync: still running, 20 s" in lines


def test_failures_are_all_that_quiet_shows() -> None:
    failed: list[Event] = [
        StageStarted(node="n2", stage="env", at=AT),
        StageStarted(node="n2", stage="env: uv sync", at=AT),
        StageFailed(node="n2", stage="env: uv sync", seconds=41, error="exited 2", at=AT),
        StageFailed(node="n2", stage="env", seconds=41, error="env failed: uv sync exited 2", at=AT),
    ]
    assert told([*DEPLOY, *failed], "failures") == ["n2 env failed after 41.0s: uv sync exited 2"]
    assert told(failed) == ["n2 env failed after 41.0s: uv sync exited 2"]


def test_labels_tell_runs_of_one_node_apart() -> None:
    events: list[Event] = [StageStarted(node="n1", stage="start", label=label, at=AT) for label in ("a", "b")]
    events += [StageFinished(node="n1", stage="start", seconds=2, label="b", at=AT)]
    events += [OutputLine(node="n1", stream="stdout", text="loss", label="a", at=AT)]
    events += [StageFailed(node="n1", stage="start", seconds=3, error="no", label="a", at=AT)]
    assert told(events) == ["n1 [b] start ok 2.0s", "n1 [a] | loss", "n1 [a] start failed after 3.0s: no"]


def test_wheels_are_one_phase_with_a_count() -> None:
    events: list[Event] = [StageStarted(node="n1", stage="env", at=AT), *phase("env: send uv 0.13.9", 1, "38 MB")]
    for number in range(57):
        stage = f"env: send package{number}-1.0-py3-none-any.whl"
        events += phase(stage, 0.5, "1.0 MB", at=AT + 1 + number / 2)
        moved = BytesMoved(node="n1", stage=stage, done=1_000_000, total=1_000_000, at=AT)
        events.insert(-1, moved)
    events += phase("env: uv sync", at=AT + 40)
    assert told(events) == ["n1 wheels ok 57 wheels, 57.0 MB 28.5s"]
    assert told(events, "all") == [
        "n1 env: send uv 0.13.9 ok 38 MB 1.0s",
        "n1 wheels ok 57 wheels, 57.0 MB 28.5s",
        "n1 env: uv sync ok 1.0s",
    ]
    there = phase("env: send a.whl", 0, "= there already") + phase("env: uv sync")
    assert told(there) == ["n1 wheels ok = 1 wheel there already 0.0s"]
    failed = StageFailed(node="n1", stage="env: send a.whl", seconds=1, error="no room", at=AT + 1)
    assert told([there[0], failed], "failures") == ["n1 wheels failed after 1.0s: no room"]


async def test_what_is_stopped_before_it_was_told_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is not there is found while we connect: that is all that there is to say."""
    stopped: list[Event] = [
        StageStarted(node="n1", stage="connect", at=AT),
        StageFailed(node="n1", stage="connect", seconds=0, error="cancelled", at=AT),
    ]
    assert told(stopped) == told(stopped, "failures") == []
    assert told(stopped, "all") == ["n1 connect failed after 0.0s: cancelled"]
    monkeypatch.setattr(plain, "BEGIN_S", 0.02)
    screen = io.StringIO()
    see = print_events(screen)
    see(stopped[0])
    await eventually(lambda: "connect ..." in screen.getvalue())
    see(stopped[1])
    assert screen.getvalue().endswith("n1 connect failed after 0.0s: cancelled\n")


async def test_a_begin_is_said_only_of_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "BEGIN_S", 0.02)
    screen = io.StringIO()
    see = print_events(screen)
    for event in phase("connect"):
        see(event)
    see(StageStarted(node="n1", stage="push", at=AT))
    see(BytesMoved(node="n1", stage="push", done=1_000_000, total=2_000_000))
    see(StageStarted(node="n1", stage="env: uv sync", at=AT))
    await eventually(lambda: "push ..." in screen.getvalue())
    see(StageFinished(node="n1", stage="push", seconds=9, at=AT))
    lines = [line.partition(" ")[2] for line in screen.getvalue().splitlines()]
    assert lines == ["n1 connect ok 1.0s", "n1 push ... 1.0/2.0 MB", "n1 push ok 9.0s"]


async def test_a_screen_that_is_gone_when_a_begin_is_said_is_the_next_events_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain, "BEGIN_S", 0.0)
    screen = io.StringIO()
    see: Observer = print_events(screen)
    see(StageStarted(node="n1", stage="push", at=AT))
    screen.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="closed file"):
        see(Noted(node="n1", text="x"))


async def test_the_readmes_launch_on_four_nodes_is_told_in_under_40_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "BEGIN_S", 600.0)  # on a busy machine any phase may take longer
    project = tmp_path / "project"
    project.mkdir()
    write_project(project, ("one", "two"))
    screen = io.StringIO()
    async with LocalCluster(4) as cluster, cluster.pool(observer=print_events(screen)) as pool:
        job = Ranks("mkdir -p results; echo $RANK >results/rank; for i in 1 2 3; do echo line $i; done")
        launch = await fan_out(cluster.nodes, project, job, UvEnv(), pool=pool)
        report = await wait_launch(launch, pool=pool)
        results = await collect_all(launch, "results", tmp_path / "results", pool=pool)
        report.unwrap()
        results.unwrap()
    lines = screen.getvalue().splitlines()
    assert len(lines) < 40, screen.getvalue()
    for node in cluster.nodes:
        stages = [line.split()[2] for line in lines if line.split()[1] == node.name]
        assert [each for each in stages if each != "note:"] == ["connect", "probe", "push", "env", "start", "collect"]


NASTY = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]52;c;eA==\x07\x1b[2Jend"
ESCAPED = r"\x1b]0;title\x07\x1b]52;c;eA==\x07\x1b[2Jend"


def on_a_terminal(events: list[Event]) -> str:
    """What a terminal gets of events, without the time."""
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        with os.fdopen(slave, "w") as terminal:
            observer = print_events(terminal)
            for event in events:
                observer(event)
            said = screen.read(4096).decode()
    return re.sub(r"^\d\d:\d\d:\d\d\.\d ", "", said).rstrip()


@pytest.mark.parametrize(
    "env,coloured",
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"TERM": "xterm", "CI": "true"}, False),
    ],
)
def test_of_what_a_command_prints_only_colours_reach_a_terminal(
    env: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    line = OutputLine(node="n1", stream="stdout", text=NASTY, at=AT)
    red = "\x1b[31mred\x1b[0m" if coloured else "red"
    assert on_a_terminal([line]) == f"n1 | {red} {ESCAPED}" + ("\x1b[0m" if coloured else "")


def test_a_pipe_gets_no_colours_and_a_line_says_which_command_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    line = OutputLine(node="n1", stream="stderr", text=NASTY, at=AT, label="lr=0.1\x1b[2J")
    assert told([line]) == [rf"n1 [lr=0.1\x1b[2J] ! red {ESCAPED}"]
