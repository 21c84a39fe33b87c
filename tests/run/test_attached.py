"""run_command against real shells: exact in, exact out, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.streams import HeadTail, LineCutter
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandFailed, CommandTimeout, ConnectionLost, NoShell, TransferFailed
from asyncdeploy.values.events import OutputLine
from tests.support.beds.keeper import children
from tests.support.events import printed
from tests.support.places import ROOT
from tests.support.programs.stubborn import STUBBORN, living, pids_of, timed_out, until_gone, until_written
from tests.support.remotes.shell_remote import ShellRemote, busybox_shell
from tests.support.tools import need
from tests.support.waiting import eventually
from tests.support.words import WORDS, encoded


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home") as remote:
        yield remote


async def test_output_status_and_both_streams(remote: ShellRemote) -> None:
    done = await run_command(remote, "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.status, done.signal, done.ok) == (b"out\n", b"err\n", 3, None, False)
    with pytest.raises(CommandFailed, match="exited 3") as caught:
        done.check()
    assert caught.value.evidence == "err"


@pytest.mark.parametrize("line", ["kill -KILL $$", "kill -TERM $$"])
async def test_death_by_a_signal_is_no_exit_status(remote: ShellRemote, line: str) -> None:
    done = await run_command(remote, line)
    assert (done.status, done.signal, done.ok) == (None, line.split()[1][1:], False)


@pytest.mark.parametrize("status", [0, 1, 126, 127, 137, 143, 254, 255])
async def test_every_exit_status_is_exact(remote: ShellRemote, status: int) -> None:
    done = await run_command(remote, f"exit {status}")
    assert (done.status, done.signal) == (status, None)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "fish", "busybox"])
async def test_argv_is_exact_through_any_login_shell(tmp_path: Path, shell: str) -> None:
    need(shell)
    login = busybox_shell() if shell == "busybox" else (shell, "-c")
    async with ShellRemote(tmp_path / "home", shell=login) as remote:
        program = "import sys; sys.stdout.buffer.write(b'\\0'.join(map(__import__('os').fsencode, sys.argv[1:])))"
        done = await run_command(remote, Command.of(sys.executable, "-c", program, *WORDS), check=True)
    assert done.stdout.split(b"\0") == [encoded(word) for word in WORDS]


async def test_env_secrets_cwd_and_stdin(remote: ShellRemote) -> None:
    value = 'it\'s\n"$x" ' + "y" * 100_000
    (remote.home / "work").mkdir()
    command = Command(
        'pwd; printf %s "$A" | wc -c; printf %s "$B"; cat',
        cwd="~/work",
        env={"A": value},
        secrets={"B": "hush"},
        stdin="in\0put",
    )
    done = await run_command(remote, command, check=True)
    assert done.stdout == f"{remote.home}/work\n{len(value)}\nhushin\0put".encode()
    assert "hush" not in repr(command)
    assert "hush" not in str(command.to_dict())


async def test_a_command_without_input_reads_its_end(remote: ShellRemote) -> None:
    assert (await run_command(remote, "cat; echo end", check=True)).stdout == b"end\n"


async def test_input_that_is_not_read_blocks_nothing(remote: ShellRemote, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 5_000_000)
    assert (await run_command(remote, Command("true", stdin=big))).ok
    assert (await run_command(remote, Command("wc -c", stdin=big))).text.strip() == "5000000"


async def test_a_line_over_the_kernels_limit_for_one_argument(remote: ShellRemote) -> None:
    done = await run_command(remote, ": " + "y" * 300_000 + "; echo long; exit 4")
    assert (done.stdout, done.status) == (b"long\n", 4)


async def test_a_flood_is_bounded_and_says_what_it_dropped(remote: ShellRemote, tmp_path: Path) -> None:
    everything = tmp_path / "all"
    done = await run_command(
        remote, Command("echo first; head -c 30000000 /dev/zero; echo last", stdout_to=everything), check=True
    )
    assert done.stdout.startswith(b"first\n")
    assert done.stdout.endswith(b"last\n")
    assert len(done.stdout) < 2_200_000
    assert everything.stat().st_size == 30_000_011 == done.dropped + 2 * (1 << 20)


@pytest.mark.parametrize("stream", ["stdout_to", "stderr_to"])
async def test_a_local_file_that_cannot_be_written_is_named_before_anything_connects(
    remote: ShellRemote, tmp_path: Path, stream: str
) -> None:
    path = tmp_path / "missing" / "out"
    command = Command("true", **{stream: path})
    with pytest.raises(TransferFailed, match=f"{stream}: .*/missing/out on this machine .*: No such file") as caught:
        await run_command(remote, command)
    assert (caught.value.node, caught.value.path) == ("here", str(path))
    assert remote.opens == 0
    report = await map_nodes([remote.node], lambda _: run_command(remote, command))
    assert isinstance(report["here"].error, TransferFailed), "the caller's own work has not failed"


async def test_stderr_may_flood_while_stdout_is_silent(remote: ShellRemote) -> None:
    done = await run_command(remote, "head -c 5000000 /dev/zero >&2; echo done", check=True)
    assert done.stdout == b"done\n"


async def test_output_lines_are_events(remote: ShellRemote) -> None:
    await run_command(remote, r"printf 'one\ntwo\r\n10%%\r20%%\r\n\377half'; echo bad >&2", source="here")
    lines = [(event.stream, event.text) for event in remote.events if isinstance(event, OutputLine)]
    assert [text for stream, text in lines if stream == "stdout"] == [
        "one",
        "two",
        "10%",
        "20%",
        "\N{REPLACEMENT CHARACTER}half",
    ]
    assert ("stderr", "bad") in lines


async def test_a_missing_folder_is_named(remote: ShellRemote) -> None:
    with pytest.raises(CommandFailed, match="/no/such/folder"):
        await run_command(remote, Command("true", cwd="/no/such/folder"))
    assert (await run_command(remote, "true")).ok


async def test_a_warm_worker_is_used_again(remote: ShellRemote) -> None:
    for number in range(20):
        assert (await run_command(remote, f"echo {number}")).text == str(number)
    assert remote.opens == 1


async def test_what_the_leader_leaves_behind_is_ended(remote: ShellRemote) -> None:
    done = await run_command(remote, "setsid sleep 300 & echo $! > pids; sleep 300 & echo $! >> pids; exit 5")
    assert done.status == 5
    assert not living(remote.home)


async def test_timeout_ends_everything(remote: ShellRemote) -> None:
    error = await timed_out(remote, remote.home, Command(STUBBORN + "sleep 300"))
    assert error.ended
    assert not living(remote.home)
    assert (await run_command(remote, "echo again")).text == "again"
    assert remote.opens == 1


async def test_cancellation_ends_everything_before_it_returns(remote: ShellRemote) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run_command, remote, STUBBORN + "sleep 300")
        await eventually(lambda: "ready" in printed(remote.events))
        group.cancel_scope.cancel()
    assert not living(remote.home)


async def test_a_stop_in_one_breath_with_the_input_is_obeyed(remote: ShellRemote) -> None:
    """The worker answers, so it is used again."""
    await run_command(remote, "true")
    for _ in range(5):
        with anyio.move_on_after(0) as scope:
            await run_command(remote, Command("sleep 300", stdin="x"))
        assert scope.cancelled_caught
    assert (await run_command(remote, "echo again")).text == "again"
    assert remote.opens == 1


async def test_the_leash_ends_everything_when_the_line_is_cut(remote: ShellRemote) -> None:
    async with anyio.create_task_group() as group:

        async def lose() -> None:
            with pytest.raises(ConnectionLost):
                await run_command(remote, STUBBORN + "sleep 300")

        group.start_soon(lose)
        await eventually(lambda: "ready" in printed(remote.events))
        await remote.channels[0].close()
    await until_gone(pids_of(remote.home))


async def test_a_worker_that_was_killed_is_unknown_never_success(remote: ShellRemote) -> None:
    await run_command(remote, "true")
    (worker,) = children(remote.channels[0].process.pid)  # below its keeper
    with pytest.raises(ConnectionLost) as caught:
        await run_command(remote, f"kill -KILL {worker}; exit 0")
    assert caught.value.outcome == "unknown"


@pytest.mark.parametrize("rc", ["echo noise; echo more", "exit 1", "exec cat"])
async def test_a_login_shell_with_a_will_of_its_own(tmp_path: Path, rc: str) -> None:
    async with ShellRemote(tmp_path / "home", shell=("sh", "-c", f'{rc}; eval "$1"', "sh")) as remote:
        if rc.startswith("echo"):
            assert (await run_command(remote, "echo fine")).stdout == b"fine\n"
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("asyncdeploy.remote.frames.GREETING_S", 1.0)
            with pytest.raises(NoShell):
                await run_command(remote, "touch ran")
    assert not (remote.home / "ran").exists()


async def test_on_end_runs_when_it_is_stopped(remote: ShellRemote) -> None:
    with pytest.raises(CommandTimeout):
        await run_command(remote, Command("sleep 300", timeout_s=0.2, on_end="echo ended > mark"))
    assert (remote.home / "mark").read_text() == "ended\n"
    await run_command(remote, Command("true", on_end="echo twice >> mark"))
    assert (remote.home / "mark").read_text() == "ended\n"


async def test_our_own_sigkill_ends_the_run(tmp_path: Path) -> None:
    """A client process is killed while its command runs: the node ends everything alone."""
    home = tmp_path / "home"
    program = f"""
import asyncio
from pathlib import Path
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.run.attached import run_command
from tests.support.remotes.shell_remote import ShellRemote
async def main():
    async with ShellRemote(Path({str(home)!r})) as remote:
        await run_command(remote, {STUBBORN + "sleep 300"!r})
asyncio.run(main())
"""
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    try:
        await until_written(home)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        await client.wait()
    await until_gone(pids_of(home))


def test_head_and_tail() -> None:
    kept = HeadTail(4)
    for piece in (b"ab", b"cdef", b"ghij", b"klm"):
        kept.add(piece)
    assert kept.dropped == 5
    assert kept.value() == b"abcd\n... [5 bytes dropped] ...\njklm"


def test_lines_across_pieces() -> None:
    cutter = LineCutter()
    assert cutter.add("€".encode()[:1]) == []
    assert cutter.add("€".encode()[1:] + b"\r") == []
    assert cutter.add(b"\nnext\rlast") == ["€", "next"]
    assert cutter.add(b"", final=True) == ["last"]


@pytest.mark.parametrize(
    "bad",
    [
        {"line": ""},
        {"line": "a\0b"},
        {"line": "x", "timeout_s": 0},
        {"line": "x", "env": {"A": "y" * 200_000}},
        {"line": "x", "env": {"A B": ""}},
    ],
)
def test_a_bad_command_is_refused_when_it_is_built(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|NUL|128 KiB"):
        Command(**bad)  # type: ignore[arg-type]
