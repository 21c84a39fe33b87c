"""run_command on nodes without python3: plain sh keeps the same promises."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncdeploy.remote.interpreter import has_python, open_script
from asyncdeploy.remote.sh import script
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandFailed, ConnectionLost, ToolMissing
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.stubborn import STUBBORN, living, pids_of, timed_out, until_gone, until_written
from tests.support.remotes.plain_remote import SHELLS, PlainRemote
from tests.support.remotes.shell_remote import ShellChannel
from tests.support.tools import need_root
from tests.support.waiting import is_alive
from tests.support.words import WORDS, encoded


@pytest.fixture(params=SHELLS)
async def remote(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[PlainRemote]:
    async with PlainRemote(tmp_path / "home", request.param) as remote:
        yield remote


async def test_output_status_and_both_streams(remote: PlainRemote) -> None:
    assert not await has_python(remote)
    done = await run_command(remote, "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.status, done.ok) == (b"out\n", b"err\n", 3, False)
    assert not done.signal_possible


async def test_a_status_above_128_may_be_a_signal_and_is_not_guessed(remote: PlainRemote) -> None:
    for line in ("kill -KILL $$", "exit 137"):
        done = await run_command(remote, line)
        assert (done.status, done.signal, done.signal_possible, done.stderr) == (137, None, True, b"")
    with pytest.raises(CommandFailed, match="or died of a signal"):
        done.check()


async def test_words_env_secrets_folder_and_input_are_exact(remote: PlainRemote) -> None:
    (remote.home / "work").mkdir()
    value = 'it\'s\n"$x" ' + "y" * 100_000
    words = Command.of("printf", "%s\\0", *WORDS).line
    line = f'pwd; printf %s "$A" | wc -c; printf %s "$B"; cat; {words}'
    command = Command(line, cwd="~/work", env={"A": value}, secrets={"B": "hush"}, stdin="in\0put\n\n")
    done = await run_command(remote, command, check=True)
    first, count, rest = done.stdout.split(b"\n", 2)
    assert (first.decode(), int(count)) == (f"{remote.home}/work", len(value))
    assert rest == b"hushin\0put\n\n" + b"".join(encoded(word) + b"\0" for word in WORDS)


async def test_big_input_blocks_nothing_and_long_lines_pass(remote: PlainRemote, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 3_000_000)
    assert (await run_command(remote, Command("true", stdin=big))).ok
    assert (await run_command(remote, Command("wc -c", stdin=big))).text.strip() == "3000000"
    done = await run_command(remote, ": " + "y" * 300_000 + "; cat; echo long; exit 4")
    assert (done.stdout, done.status) == (b"long\n", 4)


async def test_what_runs_has_the_login_environment_and_nothing_of_ours(remote: PlainRemote) -> None:
    remote.env |= {"file": "theirs", "mark": "it's\ntheirs", "LC_ALL": "C.UTF-8", "child": "7"}
    line = 'echo "$file $mark $LC_ALL $child"; ls -l /proc/$$/fd | wc -l; umask; env'
    done = await run_command(remote, line, check=True)
    assert done.text.startswith("theirs it's\ntheirs C.UTF-8 7\n")
    ours = {row.partition("=")[0] for row in done.text.split("\n")[4:]} - set(remote.env)
    assert ours <= {
        "ASYNCDEPLOY_RUN",
        "SPT_NOENV",
        "PYTHONUNBUFFERED",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "theirs",
        "theirs C.UTF-8 7",
    }


async def test_a_flood_is_bounded_and_its_end_is_there(remote: PlainRemote) -> None:
    done = await run_command(remote, "echo first; head -c 20000000 /dev/zero; echo last", check=True)
    assert (done.stdout[:6], done.stdout[-5:]) == (b"first\n", b"last\n")
    assert len(done.stdout) + done.dropped > 20_000_000 > 2_200_000 > len(done.stdout)


async def test_a_missing_folder_is_named(remote: PlainRemote) -> None:
    with pytest.raises(CommandFailed, match="/no/such"):
        await run_command(remote, Command("true", cwd="/no/such", stdin="x"))


async def test_what_the_leader_leaves_behind_is_ended(remote: PlainRemote) -> None:
    done = await run_command(remote, STUBBORN + "exit 5")
    assert done.status == 5
    assert len(pids_of(remote.home)) == 4
    assert not living(remote.home)


async def test_a_timeout_ends_everything_and_keeps_the_last_words(remote: PlainRemote) -> None:
    # The trap first: the others may be up, and the time over, before a line behind them is read.
    line = "exec 2>/dev/null; trap 'echo last words; exit' TERM; " + STUBBORN + "while :; do sleep 0.1; done"
    error = await timed_out(remote, remote.home, Command(line, on_end="echo ended > ended"))
    assert error.ended
    assert "last words" in error.evidence
    assert not living(remote.home)
    assert (remote.home / "ended").read_text() == "ended\n"


async def test_cancellation_ends_everything_before_it_returns(remote: PlainRemote) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run_command, remote, STUBBORN + "sleep 300")
        pids = await until_written(remote.home)
        group.cancel_scope.cancel()
    assert not any(is_alive(pid) for pid in pids)


async def test_a_cut_line_is_unknown_and_the_leash_ends_the_run(remote: PlainRemote) -> None:
    async def run() -> None:
        with pytest.raises(ConnectionLost):
            await run_command(remote, STUBBORN + "trap 'exit 0' TERM; while :; do sleep 0.1; done")

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        pids = await until_written(remote.home)
        remote.channels[-1].send_eof()
    await until_gone(pids)


async def start(remote: PlainRemote, silence: int) -> ShellChannel:
    words = (secrets.token_hex(8), "1", str(silence), "", "", STUBBORN + "sleep 300")
    channel = await open_script(remote, script(("processes", "run/run"), *words))
    channel.send(b"%-11d\n" % 0)
    return channel


@pytest.mark.parametrize("end", ["silence", "eof"])
async def test_silence_and_the_lines_end_end_everything(remote: PlainRemote, end: str) -> None:
    channel = await start(remote, 2 if end == "silence" else 90)
    pids = await until_written(remote.home)
    if end == "eof":
        channel.send_eof()
    await until_gone(pids)
    assert (await channel.wait()).signal == "KILL"


@pytest.mark.parametrize("remote", ["dash", "busybox"], indirect=True)
async def test_signs_of_life_keep_it_running(remote: PlainRemote) -> None:
    silence_s = 2
    channel = await start(remote, silence_s)

    async def live() -> None:
        while True:
            channel.send(b"h\n")
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        pids = await until_written(remote.home)
        await anyio.sleep(silence_s + 0.5)
        assert all(is_alive(pid) for pid in pids)
        group.cancel_scope.cancel()
    channel.send_eof()
    await until_gone(pids)
    await channel.wait()


async def test_without_timeout_our_silence_would_go_unnoticed(tmp_path: Path) -> None:
    async with PlainRemote(tmp_path / "home", "busybox") as remote:
        (remote.sh.parent / "timeout").unlink()
        with pytest.raises(ToolMissing, match="timeout"):
            await run_command(remote, "echo never > ran")
        assert not (remote.home / "ran").exists()


async def test_a_sleep_without_fractions_and_no_setsid(tmp_path: Path) -> None:
    async with PlainRemote(tmp_path / "home", "busybox") as remote:
        sleep = remote.sh.parent / "sleep"
        busybox = sleep.readlink()
        sleep.unlink()
        sleep.write_text(f'#!{remote.sh}\ncase $1 in *.*) exit 1 ;; esac\nexec {busybox} sleep "$1"\n')
        sleep.chmod(0o755)
        (remote.sh.parent / "setsid").unlink()
        loop = "while :; do sleep 1; done"
        line = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> pids; {loop}' & {loop}"
        error = await timed_out(remote, remote.home, Command(f"echo $$ >> pids; {line}"), count=2)
        assert error.ended
        assert not living(remote.home)


@pytest.mark.parametrize("end", ["timeout", "cancel", "cut"])
async def test_every_end_over_real_sshd_as_root(plain_sshd: SshdNode, end: str) -> None:
    need_root()
    sshd, command = plain_sshd, Command(STUBBORN + "sleep 300")
    async with at(sshd) as remote:
        assert not await has_python(remote)
        assert (await run_command(remote, Command("cat; exit 3", stdin="in"))).stdout == b"in"
        if end == "timeout":
            assert (await timed_out(remote, sshd.home, command)).ended
        else:

            async def run() -> None:
                with pytest.raises(ConnectionLost):
                    await run_command(remote, command)

            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await until_written(sshd.home)
                if end == "cut":
                    sshd.end_sessions()
                else:
                    group.cancel_scope.cancel()
    await until_gone(pids_of(sshd.home))
