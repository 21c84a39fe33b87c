"""Every Ctrl-C, in a real terminal: `run` ends by steps, a launch never ends by it."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts, names
from tests.support.people.terminal import terminal
from tests.support.waiting import eventually_sync

DEAF = "trap 'echo heard' TERM; echo on; while :; do sleep 0.1; done"


def test_the_first_is_term_and_keeps_what_came(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    line = "trap 'echo bye; exit 3' TERM; echo on; while :; do sleep 0.1; done"
    with terminal(ad, "run", *hosts(sshd_nodes[:2]), "--", line) as window:
        window.shows(": on")
        window.press("C-c")
        assert window.ended() == 130
        assert "TERM was sent" in window.screen()
        assert ": bye" in window.screen()


@contextmanager
def silent(sshd: SshdNode) -> Iterator[None]:
    """The node answers nobody: what was asked of it is done when it is back."""
    sessions = sshd.sessions()
    for pid in sessions:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in sessions:
            os.kill(pid, signal.SIGCONT)


def test_the_second_is_kill_and_the_third_leaves(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    with terminal(ad, "run", hosts(sshd_nodes)[0], "--", DEAF) as window:
        window.shows(": on")
        with silent(sshd_nodes[0]):
            for said in ("TERM was sent", "KILL was sent", "Not seen to end"):
                window.press("C-c")
                window.shows(said)
            assert window.ended() == 130
            assert names(sshd_nodes)[0] in window.screen().split("Not seen to end")[1]
    eventually_sync(lambda: not sshd_nodes[0].processes(), within_s=60)


def test_a_launch_runs_on_and_what_to_type_next_is_printed(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    words = ("--launcher", "ranks", "--name", "train", "--env", "system", "--grace", "1")
    line = "echo up; while :; do sleep 0.1; done"
    with terminal(ad, "launch", line, "-n", ",".join(hosts(sshd_nodes[:2])), *words) as window:
        window.shows("(2): up")
        assert "watching; Ctrl-C leaves it running" in window.screen()
        window.press("C-c")
        assert window.ended() == 130
        screen = window.screen()
    try:
        check_coming_back(ad, screen)
    finally:
        assert ad("stop", "last").code == 0


def check_coming_back(ad: CommandLine, screen: str) -> None:
    """Check what was printed, and that neither a look nor a wait ends the launch."""
    assert "runs on; nobody watches it now" in screen
    assert "Traceback" not in screen
    for verb in ("logs", "wait", "stop"):
        assert f"asyncdeploy {verb} train-" in screen
    assert "RUNNING 2/2" in ad("ps", "last").out
    with terminal(ad, "wait", "last") as window:
        window.shows("watching train-")
        window.press("C-c")
        assert window.ended() == 130
    with terminal(ad, "logs", "last", "-f") as window:
        window.shows("this only looks")
        window.press("C-c")
        assert window.ended() == 130
        screen = window.screen()
    assert "goes on as before" in screen
    for verb in ("logs", "wait", "stop"):
        assert f"asyncdeploy {verb} train-" in screen


@pytest.mark.parametrize(
    "words", [("launch", "true", "--launcher", "ranks"), ("start", "--name", "side", "--", "true")]
)
def test_while_it_deploys_nothing_is_started_and_that_is_said(
    words: tuple[str, ...], ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    verb, *rest = words
    os.kill(sshd_nodes[0].pid, signal.SIGSTOP)
    try:
        with terminal(ad, verb, "-n", ",".join(hosts(sshd_nodes[:2])), "--env", "system", *rest) as window:
            window.shows("connect")
            window.press("C-c")
            assert window.ended() == 130
            assert "stopped; nothing was started" in window.screen()
    finally:
        os.kill(sshd_nodes[0].pid, signal.SIGCONT)
    assert ad("ps", "-n", ",".join(hosts(sshd_nodes[:2]))).out == "nothing runs or ran there\n"


def test_a_start_runs_on_and_what_to_type_next_is_printed(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    line = "echo up; while :; do sleep 0.1; done"
    where = ("-n", ",".join(hosts(sshd_nodes[:2])), "--env", "system")
    assert ad("start", "--name", "side", *where, "--", line).code == 0
    try:
        for words, begun, left in (
            (("wait", "side"), "waiting for side-", "runs on"),
            (("logs", "side", "-f"), ": up", "goes on as before"),
        ):
            with terminal(ad, *words) as window:
                window.shows(begun)
                window.press("C-c")
                assert window.ended() == 130
                screen = window.screen()
            assert left in screen
            assert "watches" not in screen, "nobody watches over a start"
            for verb in ("logs", "wait", "stop"):
                assert f"asyncdeploy {verb} side-" in screen
        with terminal(ad, "logs", "side", "-f", "--json") as window:
            window.shows('"event": "JobLine"')
            window.press("C-c")
            assert window.ended() == 130
            screen = window.screen()
        assert '"event": "Result", "verb": "logs", "ok": false, "exit": 130' in screen
        assert ad("why", "side").out.count("is running") == 2
    finally:
        assert ad("stop", "side").code == 0
