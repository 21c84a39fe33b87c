"""J13: the worker of an attached run is killed, or its keeper: nothing of the run stays, however it hides."""

import asyncio
import fcntl
import os
import shlex
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asyncdeploy.node_side import proc
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import ConnectionLost
from tests.support.beds.client import client
from tests.support.beds.keeper import children
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.hiding import Seen, alive, all_hidden, hiding_line
from tests.support.programs.stubborn import until_gone, until_written
from tests.support.remotes.killing import slowed
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.waiting import eventually

UserNode = Callable[..., SshdNode]
WHO = pytest.mark.parametrize("who", ["worker", "keeper"])


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home") as remote:
        yield remote


def pid_of(remote: ShellRemote, who: str) -> int:
    """The worker of the only channel, or its keeper, which sshd knows as the worker."""
    keeper = remote.channels[0].process.pid
    return keeper if who == "keeper" else children(keeper)[0]


async def killed(remote: ShellRemote, line: Command | str, who: str, *, warm: bool = False) -> list[Seen]:
    """Kill somebody while a line runs that writes four pids down; wait until the run's end is known here."""
    if warm:
        await run_command(remote, "true")
    run = asyncio.create_task(run_command(remote, line))
    seen = await all_hidden(remote.home)
    os.kill(pid_of(remote, who), signal.SIGKILL)
    with pytest.raises(ConnectionLost) as caught:
        await run
    assert caught.value.outcome == "unknown"
    return seen


@WHO
@pytest.mark.parametrize("warm", [False, True])
async def test_j13_nothing_stays_behind_one_that_is_killed(remote: ShellRemote, who: str, *, warm: bool) -> None:
    seen = await killed(remote, hiding_line(), who, warm=warm)
    await eventually(lambda: not alive(seen), "setsid, a double fork and a wiped environment hide nobody")
    pid = remote.channels[0].process.pid
    await eventually(lambda: not Path(f"/proc/{pid}").exists() or remote.channels[0].process.returncode is not None)


async def test_j13_term_is_for_the_program_and_the_line_at_its_end_runs(remote: ShellRemote) -> None:
    """As at any other stop: a trainer may save, and its container ends."""
    save = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'w').close(), exit()))"
    program = f"{save}; open('pids', 'a').write(str(__import__('os').getpid())); time.sleep(999)"
    line = Command(f"python3 -c {shlex.quote(program)}", on_end='echo "$WORD" >ended', env={"WORD": "yes"})
    run = asyncio.create_task(run_command(remote, line))
    pids = await until_written(remote.home, 1)
    os.kill(pid_of(remote, "worker"), signal.SIGKILL)
    with pytest.raises(ConnectionLost):
        await run
    await until_gone(pids)
    assert (remote.home / "saved").exists()
    await eventually(lambda: (remote.home / "ended").exists() and (remote.home / "ended").read_text() == "yes\n")


async def test_j13_a_worker_that_is_killed_as_a_run_begins_leaves_nothing_of_it(tmp_path: Path) -> None:
    """It leaves the run's folder behind the start, and is killed there."""
    async with ShellRemote(tmp_path / "home", shell=slowed("chdir", 1.0)) as remote:
        run = asyncio.create_task(run_command(remote, "echo $$ >>pids; sleep 300"))
        pids = await until_written(remote.home, 1)
        row = proc.process(pids[0])
        assert row is not None
        os.kill(row.parent, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            await run
        await until_gone(pids)


async def test_j13_a_line_at_the_end_runs_with_all_that_it_needs_or_not_at_all(remote: ShellRemote) -> None:
    """The kernel gives an account that has thousands of pipes short ones: half of the variables would stand there."""
    await run_command(remote, "true")
    worker = pid_of(remote, "worker")
    for number in (3, 4):  # where the keeper reads what runs
        pipe = os.open(f"/proc/{worker}/fd/{number}", os.O_RDWR | os.O_NONBLOCK)
        assert fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096) == 4096
        os.close(pipe)
    env = {"A": "a" * 20000, "WORD": "yes"}
    line = Command("echo $$ >>pids; sleep 300", on_end='echo "$WORD" >ended', env=env)
    run = asyncio.create_task(run_command(remote, line))
    pids = await until_written(remote.home, 1)
    keeper = pid_of(remote, "keeper")
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(ConnectionLost):
        await run
    await until_gone([*pids, keeper])
    assert not (remote.home / "ended").exists()


async def test_j13_what_a_leader_left_when_its_worker_is_killed(remote: ShellRemote) -> None:
    """The leader has ended and was reaped, its children are under way to their end."""
    line = (
        "sh -c 'trap \"\" TERM; echo $$ >>pids; while :; do sleep 1; done' & while [ ! -s pids ]; do sleep 0.02; done"
    )
    run = asyncio.create_task(run_command(remote, line))
    pids = await until_written(remote.home, 1)
    worker = pid_of(remote, "worker")
    await eventually(lambda: set(children(worker)) == set(pids), "the leader has ended")
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(ConnectionLost):
        await run
    await until_gone(pids)


async def test_j13_no_keeper_stays_without_its_worker(remote: ShellRemote) -> None:
    await run_command(remote, "true")
    keeper, worker = pid_of(remote, "keeper"), pid_of(remote, "worker")
    await remote.close()
    await until_gone([keeper, worker])


@pytest.mark.parametrize("also_the_client", [False, True])
async def test_j13_over_sshd(user_node: UserNode, *, also_the_client: bool) -> None:
    """The node's kernel kills our worker: nobody else has to act, and the client hears of it at once."""
    sshd = user_node("bash")
    async with client(sshd, "await run_command(remote, args[0])", hiding_line()) as process:
        seen = await all_hidden(sshd.home)
        worker = next(pid for pid in sshd.processes() if seen[0].pid in children(pid))
        if also_the_client:
            process.send_signal(signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        _, said = await process.communicate()
        assert also_the_client or b"ConnectionLost" in said
        await eventually(lambda: not alive(seen))
        async with at(sshd) as remote:
            assert (await run_command(remote, "echo again")).text == "again"
