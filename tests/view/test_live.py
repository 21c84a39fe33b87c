"""The live view on real terminals (tmux): every size, resized, 3 nodes and 100, with and without UTF-8 and colours."""

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncdeploy.values.events import StageFinished
from asyncdeploy.view.board import Lines, board_of
from asyncdeploy.view.live import live_view
from asyncdeploy.view.story import Story
from asyncdeploy.view.terminal import Screen
from tests.support.places import ROOT
from tests.support.tools import need
from tests.support.waiting import eventually_sync

PROGRAM = ROOT / "tests/support/programs/live.py"
SIZES = [(100, 30), (80, 24), (40, 10), (20, 5), (200, 60)]


class Terminal:
    """A window of a tmux of its own, in which the program runs; what stays in it can be looked at."""

    def __init__(self, folder: Path, columns: int, lines: int, **env: str) -> None:
        self._socket = str(folder / "tmux")
        words = " ".join(f"'{name}={value}'" for name, value in {"PYTHONPATH": str(ROOT), **env}.items())
        program = f"env -u CI -u NO_COLOR -u FORCE_COLOR {words} {sys.executable} {PROGRAM}"
        program = f"trap : INT; {program}; echo status $?; exec sleep 600"
        size = ("-x", str(columns), "-y", str(lines))
        self("-u", "-f", "/dev/null", "new-session", "-d", *size, program)
        self("set", "-g", "window-size", "manual")
        self.wait(lambda screen: "up" in screen)

    def __call__(self, *words: str) -> str:
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(["tmux", "-S", self._socket, *words], env=env, capture_output=True, check=True)
        return done.stdout.decode()

    def type(self, *lines: str) -> None:
        """Type lines, each with Enter."""
        for line in lines:
            self("send-keys", "-l", line)
            self("send-keys", "Enter")

    def screen(self, *flags: str) -> str:
        """What is to be seen."""
        return self("capture-pane", "-p", *flags).rstrip("\n")

    def wait(self, condition: Callable[[str], object]) -> str:
        """Wait until what is to be seen fits, and return it."""

        def fits() -> str:
            screen = self.screen()
            return screen if condition(screen) else ""

        return eventually_sync(fits)

    def resize(self, columns: int, lines: int) -> None:
        self("resize-window", "-x", str(columns), "-y", str(lines))

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminal(columns, lines, **env)`: a window in which the program runs."""
    need("tmux")
    made: list[Terminal] = []

    def make(columns: int, lines: int, **env: str) -> Terminal:
        made.append(Terminal(tmp_path, columns, lines, **env))
        return made[-1]

    yield make
    for each in made:
        each.close()


def heads(screen: str) -> int:
    """How often a board stands there."""
    return len(re.findall(r"^(rank  )?node  ", screen, re.MULTILINE))


THREE = (
    *("ok gpu-a connect 0.3 x", "ok gpu-b connect 0.4 x", "start gpu-c connect"),
    *("ok gpu-a push 1.1 3 files", "ok gpu-a env 9.2 2 steps"),
    *("start gpu-b env", "start gpu-b env:_uv_sync", "fail gpu-c connect 5.0 banner timeout"),
)


def test_three_nodes_stand_in_the_order_in_which_they_came(terminal: Callable[..., Terminal]) -> None:
    window = terminal(100, 30)
    window.type(*THREE, "out gpu-b Resolved 3 packages", "note gpu-a careful")
    screen = window.wait(lambda screen: "careful" in screen)
    rows = screen[screen.index("rank") :].splitlines()
    assert rows[0].split() == ["rank", "node", "connect", "push", "env", "state"]
    assert rows[1].split() == ["0", "gpu-a", "ok", "0.3s", "ok", "1.1s", "ok", "9.2s", "ready"]
    assert re.fullmatch(r" +1 +gpu-b +ok 0.4s +uv sync \d+s +env", rows[2])
    assert rows[3].split() == ["2", "gpu-c", "banner", "timeout", "failed"]
    assert rows[4:] == [
        "gpu-c connect failed: banner timeout",
        "gpu-b | Resolved 3 packages",
        "gpu-a note: careful",
    ]
    assert "3 nodes, 1 ready, 1 env, 1 failed" in screen
    window.type("end")
    screen = window.wait(lambda screen: "status 0" in screen)
    assert heads(screen) == 1
    assert screen.endswith("gpu-a note: careful\nover\nstatus 0")


@pytest.mark.parametrize("columns,lines", SIZES)
def test_a_hundred_nodes_are_the_worst_fifteen_and_a_count(
    terminal: Callable[..., Terminal], columns: int, lines: int
) -> None:
    window = terminal(columns, lines)
    window.type("ready 100", "start gpu-050 collect", "fail gpu-070 env 3.0 disk full")
    screen = window.wait(lambda screen: "gpu-070" in screen and "more" in screen and heads(screen))
    rows = screen[re.search(r"^(rank  )?node ", screen, re.MULTILINE).start() :].splitlines()
    assert heads(screen) == 1
    assert len(screen.splitlines()) <= lines
    assert all(len(row) < columns for row in screen.splitlines())
    assert "gpu-070" in rows[1]
    if lines > 8:
        assert "gpu-050" in rows[2]
        shown = len([row for row in rows if re.match(r" +\d+  gpu-", row)])
        assert shown == min(15, lines - 5)
        assert f"and {100 - shown} more ready" in rows


def test_a_window_may_change_as_it_likes(terminal: Callable[..., Terminal]) -> None:
    window = terminal(100, 30)
    window.type(*THREE, "note gpu-a careful")
    window.wait(lambda screen: "careful" in screen)
    for columns, lines in (*SIZES, (60, 12), (120, 40), (30, 30)):
        window.resize(columns, lines)
        # A board is there once, whole and no wider than the window: drawn again after the change.
        window.wait(
            lambda screen, columns=columns: (
                heads(screen) == 1
                and re.search(r"^ +2 +gpu-c ", screen, re.MULTILINE)
                and re.search(r"^3 nodes.* 00:0\d:\d\d$", screen, re.MULTILINE)
                and max(map(len, screen.splitlines())) < columns
            )
        )
    window.type("end")
    assert heads(window.wait(lambda screen: "status 0" in screen)) == 1


def test_what_is_printed_goes_above_and_stays(terminal: Callable[..., Terminal]) -> None:
    window = terminal(80, 24)
    window.type("ok n1 push 1.0 x", "print first word", "start n1 env", "log second word", "ok n1 env 2.0 x", "end")
    screen = window.wait(lambda screen: "status 0" in screen)
    assert heads(screen) == 1
    lines = screen.splitlines()
    assert lines[:3] == ["up", "first word", "WARNING:script:second word"]
    assert lines[3].startswith("1 node, 1 ready")
    assert lines[-2:] == ["over", "status 0"]


def test_without_utf8_all_is_ascii(terminal: Callable[..., Terminal]) -> None:
    window = terminal(60, 20, PYTHONIOENCODING="ascii")
    window.type(r"note n1 f\u00fcr \u20ac", "fail n1 push 1.0 " + "long " * 30)
    screen = window.wait(lambda screen: "failed" in screen)
    assert screen.isascii()
    assert r"n1 note: f\xfcr \u20ac" in screen
    window.type("end")
    window.wait(lambda screen: "status 0" in screen)


def test_colours_come_and_go_with_no_color(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    window = terminal(80, 20)
    window.type("fail n1 push 1.0 no")
    window.wait(lambda screen: "failed" in screen)
    assert re.search(r"\x1b\[[0-9;]*31m", window.screen("-e"))
    window.close()
    (tmp_path / "tmux").unlink(missing_ok=True)
    window = terminal(80, 20, NO_COLOR="1")
    window.type("fail n1 push 1.0 no")
    window.wait(lambda screen: "failed" in screen)
    assert not re.search(r"\x1b\[[0-9;]*3[1-7]m", window.screen("-e"))


def test_ctrl_c_leaves_the_board_and_a_terminal_in_order(terminal: Callable[..., Terminal]) -> None:
    window = terminal(100, 60)
    window.type(*THREE)
    window.wait(lambda screen: "banner" in screen)
    window("send-keys", "C-c")
    screen = window.wait(lambda screen: "status" in screen)
    assert heads(screen) == 1
    assert "KeyboardInterrupt" in screen[screen.index("gpu-c connect failed") :]
    assert screen.endswith("status 130")


def test_a_nodes_words_cannot_drive_the_terminal(terminal: Callable[..., Terminal]) -> None:
    window = terminal(100, 20)
    window.type(r"out n1 \x1b[2J\x1b]0;title\x07\x1b[5;5Hevil \x1b[31mred\x1b[0m", "ok n1 push 1.0 fine")
    screen = window.wait(lambda screen: "evil" in screen and "pushed" in screen)
    assert r"n1 | \x1b[2J\x1b]0;title\x07\x1b[5;5Hevil red" in screen
    assert heads(screen) == 1


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}, {"TERM": ""}], ids=str)
def test_where_nothing_can_move_it_is_lines(terminal: Callable[..., Terminal], env: dict[str, str]) -> None:
    window = terminal(100, 20, **env)
    window.type("ok n1 push 1.0 fine", "end")
    screen = window.wait(lambda screen: "status 0" in screen)
    assert heads(screen) == 0
    assert "n1 push ok fine 1.0s" in screen


def test_without_rich_it_says_what_to_install_and_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file, live_view(file) as view:
        view(StageFinished(node="n1", stage="push", seconds=1, detail="fine"))
    said = b""
    with os.fdopen(ours, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # EIO is a terminal's end
        while data := screen.read(4096):
            said += data
    lines = said.decode().splitlines()
    assert lines[0] == "for a table that changes in place: pip install 'asyncdeploy[cli]'"
    assert lines[1].endswith(" n1 push ok fine 1.0s")


def test_a_screen_that_is_gone_is_the_next_events_trouble() -> None:
    """So that the guard around each observer drops it, and the work goes on."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file:
        screen = Screen(file, lambda: None)
    os.close(ours)
    with pytest.raises(ValueError, match="closed file"):
        screen.draw(board_of(Story(), Lines(), 0.0, 5), "00:00:00")


def test_who_is_not_meant_has_no_rank_and_is_not_counted() -> None:
    story = Story()
    for at, name in enumerate(("gate", "b", "a")):
        story.take(StageFinished(node=name, stage="connect", seconds=1, at=float(at)))
    board = board_of(story, Lines(), 9.0, 5, ("a", "b", "c"))
    assert [(row.number, row.node) for row in board.rows] == [("0", "a"), ("1", "b"), ("", "gate")]
    assert board.head == "2 nodes, 2 connected"
    few = board_of(story, Lines(), 9.0, 2, ("a", "b", "c"))
    assert [row.node for row in few.rows] == ["gate"]
    assert few.more == "and 2 more connected"
    assert board_of(story, Lines(), 9.0, 5).head == "3 nodes, 3 connected"


def test_as_a_pipe_it_is_lines() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, PROGRAM], input=b"ok n1 push 1.0 fine\nend\n", env=env, capture_output=True, check=True
    )
    assert done.stdout == b"up\nover\n"
    assert re.fullmatch(rb"\d\d:\d\d:\d\d\.\d n1 push ok fine 1\.0s\n", done.stderr)
