"""Tools of a node are asked in bounded time, and one that hangs is no trouble for whatever comes after."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncdeploy.node_side import gpus, tools
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import find, need, need_root
from tests.support.waiting import eventually, eventually_sync, is_alive

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c")


def write_tool(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return str(path)


def test_what_nvidia_smi_prints(tmp_path: Path) -> None:
    answer = "GPU-1, 9912, 61000, python train.py, with a comma\nGPU-0, 17, [N/A], [Not Found]\nNo running processes"
    tool = write_tool(tmp_path / "nvidia-smi", f"echo '{answer}'")
    assert gpus.users(tool) == [
        ["GPU-1", 9912, 61000 << 20, "python train.py, with a comma"],
        ["GPU-0", 17, 0, "[Not Found]"],
    ]
    assert gpus.used(tool) == []
    assert gpus.users(write_tool(tmp_path / "failing", f"echo '{answer}'; exit 1")) == []
    assert gpus.users(None) == gpus.users("/no/such/tool") == []


@pytest.mark.parametrize("odd", ["[GPU requires reset]", "²", "17592186044415", "9" * 5000])
def test_a_gpu_that_says_no_number_keeps_its_place(tmp_path: Path, odd: str) -> None:
    """Nobody fails of it, and it is not the next one that is named."""
    tool = write_tool(tmp_path / "nvidia-smi", f"case $1 in *-gpu*) echo 'GPU-0, {odd}'; echo 'GPU-1, 61000' ;; esac")
    assert gpus.used(tool) == [["GPU-1", 61000 << 20]]
    assert gpus.more_used(tool, [["GPU-0", 0], ["GPU-1", 0]]) == ["GPU 1: 59.6 GiB"]
    assert gpus.users(write_tool(tmp_path / "users", f"echo 'GPU-0, {odd}, 5, python'")) == []
    assert gpus.users(write_tool(tmp_path / "sizes", f"echo 'GPU-0, 7, {odd}, python'")) == [["GPU-0", 7, 0, "python"]]


def test_what_a_tool_says_is_what_it_said_when_it_ended(tmp_path: Path) -> None:
    assert tools.outcome(["printf", "%s", "it's \\ $HOME"]) == (0, "it's \\ $HOME")
    assert tools.outcome(["sh", "-c", "echo a; echo b >&2; exit 3"], complaints=True) == (3, "a\nb\n")
    assert tools.outcome(["sh", "-c", "kill -9 $$"]) == (128 + 9, "")
    assert tools.outcome(["env"], environ={"A": "b"})[1].splitlines()[0] == "A=b"


def test_it_is_not_waited_for_who_holds_a_tools_output_open(tmp_path: Path) -> None:
    status, text = tools.outcome(["sh", "-c", "sleep 1000 & echo $!"], 60.0)
    assert status == 0
    os.kill(int(text), signal.SIGKILL)


def test_a_tool_that_talks_without_end_is_ended() -> None:
    status, text = tools.outcome(["sh", "-c", "echo $$; exec yes"], 0.5)
    assert status is None
    assert len(text) == tools.MOST
    pid = int(text.partition("\n")[0])
    eventually_sync(lambda: not is_alive(pid))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="asyncdeploy-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_l9_a_tool_that_cannot_be_killed_is_left_behind(open_folder: Path) -> None:
    """It runs as another user, whom our KILL does not reach, as it does not reach who hangs in a driver."""
    need_root()
    need("setpriv")
    as_root = open_folder / "as-root"
    shutil.copy(str(find("setpriv")), as_root)
    as_root.chmod(0o4755)
    (open_folder / "home").mkdir()
    os.chown(open_folder / "home", 65534, 65534)
    async with ShellRemote(open_folder / "home", shell=NOBODY) as remote:
        pid = remote.home / "pid"
        write_tool(
            remote.home / ".local/bin/nvidia-smi", f"echo $$ >~/pid; exec {as_root} --reuid=0 --clear-groups sleep 1000"
        )
        assert (await probe_node(remote)).gpus == ()
        hanging = int(pid.read_text())
        try:
            assert is_alive(hanging)
            done = await run_command(remote, "echo done")
            assert (done.stdout, done.survivors) == (b"done\n", ())
        finally:
            os.kill(hanging, signal.SIGKILL)
    await eventually(lambda: not is_alive(hanging))
