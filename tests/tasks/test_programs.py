"""Programs that leave others running, print for ever, or must be killed with all that they began."""

import os
import signal
from pathlib import Path

import pytest

from asyncdeploy.tasks.programs import MAX_PRINTED, Ended, run_program
from tests.support.waiting import eventually, is_alive


async def test_k5_what_a_program_left_running_holds_nobody_up(tmp_path: Path) -> None:
    """As a daemon that `Match exec` of an ssh_config starts: ssh itself does not wait for it either."""
    words = ["sh", "-c", f"sleep 100 & echo $! > {tmp_path}/pid; echo out; exit 3"]
    assert await run_program(words, within_s=60) == Ended(3, b"out\n", b"")
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid), "a daemon is not ours to end"
    os.kill(pid, signal.SIGKILL)


async def test_k5_a_program_that_is_killed_takes_along_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        await run_program(["sh", "-c", f"sleep 100 & echo $! > {tmp_path}/pid; wait"], within_s=0.5)
    pid = int((tmp_path / "pid").read_text())
    await eventually(lambda: not is_alive(pid), "it ends")


async def test_k5_a_program_that_prints_for_ever_is_ended() -> None:
    ended = await run_program(["yes"], within_s=60)
    assert (ended.status, len(ended.stdout)) == (-signal.SIGKILL, MAX_PRINTED)
