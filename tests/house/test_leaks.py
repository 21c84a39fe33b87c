"""The leak check itself: it must see what it is for, and nothing else."""

import asyncio
import os
import subprocess
import sys

import pytest

from tests.support import leaks
from tests.support.places import ROOT


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left on purpose here never goes: do not wait long for it."""
    monkeypatch.setattr(leaks, "SETTLE_S", 0.2)


def test_a_descriptor_is_seen() -> None:
    before = leaks.open_descriptors()
    reader, writer = os.pipe()
    try:
        left = leaks.wait_settled(before, leaks.children())
    finally:
        os.close(reader)
        os.close(writer)
    assert len(left) == 2
    assert all("pipe:" in line for line in left)
    assert leaks.wait_settled(before, leaks.children()) == []


def test_a_child_is_seen_until_it_is_reaped() -> None:
    fds, pids = leaks.open_descriptors(), leaks.children()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert any(f"process {child.pid}: " in line for line in leaks.wait_settled(fds, pids))
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert leaks.new_children(pids) == [f"process {child.pid}: (zombie)"]
    child.wait()
    assert leaks.wait_settled(fds, pids) == []


async def test_a_pending_task_is_seen() -> None:
    fds, pids, tasks = leaks.open_descriptors(), leaks.children(), asyncio.all_tasks()
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    left = await leaks.settled(fds, pids, tasks)
    assert len(left) == 1
    assert "forgotten" in left[0]
    task.cancel()
    assert await leaks.settled(fds, pids, tasks) == []


async def test_what_ends_by_itself_is_no_leak() -> None:
    fds, pids, tasks = leaks.open_descriptors(), leaks.children(), asyncio.all_tasks()
    process = await asyncio.create_subprocess_exec("true")
    waiting = asyncio.create_task(process.wait())
    assert await leaks.settled(fds, pids, tasks) == []
    assert waiting.done()


def test_the_fixture_fails_such_a_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("from tests.conftest import _leaks_of_async_test, _leaks_of_plain_test, no_leaks")
    pytester.makepyfile(
        """
        import asyncio, os
        from tests.support import leaks
        leaks.SETTLE_S = 0.1
        kept = []

        async def test_task():
            kept.append(asyncio.create_task(asyncio.sleep(3600)))

        def test_descriptor():
            os.dup(0)

        async def test_clean():
            await asyncio.create_task(asyncio.sleep(0))
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:anyio", "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*the test left behind*", "*descriptor *"])


def test_a_secret_that_is_told_fails_its_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error, a log, a program's arguments, a file of a node's, or what it prints; a test that keeps it passes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(
        "from tests.support.secrecy import no_secret_is_told, pytest_configure, pytest_runtest_makereport\n"
    )
    pytester.makepyfile(
        """
        import logging, subprocess
        import pytest
        from asyncdeploy import Command, CommandFailed
        from tests.support import secrecy

        CANARY = "canary-5d1e"

        @pytest.fixture(autouse=True)
        def command():
            return Command("true", secrets={"TOKEN": CANARY})

        def test_kept(command):
            print(command, CommandFailed("n", "exited 1"))

        def test_error():
            CommandFailed("n", "exited 1", "", f"no such file: {CANARY}")

        def test_log():
            logging.getLogger("asyncssh").warning("line %s", CANARY)

        def test_arguments():
            subprocess.run(["true", CANARY])

        def test_file(tmp_path):
            (tmp_path / "spec.json").write_text(CANARY)
            secrecy.look_at_files(tmp_path)

        def test_print():
            print(CANARY)
        """
    )
    done = pytester.runpytest_subprocess("-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=")
    done.assert_outcomes(passed=6, errors=5)
    for where in ("a CommandFailed", "a record of the logger asyncssh", "a program that is started here", "spec.json"):
        done.stdout.fnmatch_lines(f"*a secret is told by*{where}*")
    done.stdout.fnmatch_lines("*a secret is told by*what the test printed*")
