"""J12: whichever of supervisor and keeper is killed, the other one holds the job, and its true end is written down."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.node_side import proc
from asyncdeploy.run.job import Job, JobStatus
from asyncdeploy.run.jobs import job_status, list_jobs, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from tests.support.beds.keeper import children
from tests.support.programs.holders import keeper_of, kill, no_descriptors, supervisor_of
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.waiting import eventually, is_alive

# A daemon that has left session, parents and environment behind is known by nothing but whose child it became.
ESCAPES = "(setsid env -i sh -c 'echo $$ >%s/escaped; exec sleep 300' &)\n"
WAITS = "echo $$ >$HOME/leader; until [ -e $HOME/go ]; do sleep 0.02; done; "


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home") as remote:
        yield remote
        for job in await list_jobs(remote):
            await stop_job(remote, job, grace_s=0)


def folder_of(remote: ShellRemote, job: Job) -> Path:
    return remote.home / ".asyncdeploy/jobs" / job.id


async def number_in(path: Path) -> int:
    return int(await eventually(lambda: path.exists() and path.read_text().strip()))


async def end_of(remote: ShellRemote, job: Job) -> JobStatus:
    """How it ends once it is let go, and that nobody stays who held it."""
    holders = [supervisor_of(folder_of(remote, job)), keeper_of(folder_of(remote, job))]
    (remote.home / "go").touch()
    end = await wait_job(remote, job)
    await eventually(lambda: not any(is_alive(pid) for pid in holders), "who held it has left")
    return end


@pytest.mark.parametrize("who", ["supervisor", "keeper"])
@pytest.mark.parametrize("line,told", [("exit 7", (7, None)), ("kill -9 $$", (None, "KILL"))])
async def test_j12_one_is_killed_and_the_end_is_told(
    remote: ShellRemote, who: str, line: str, told: tuple[int | None, str | None]
) -> None:
    job = await start_job(remote, WAITS + line, name="kept")
    await number_in(remote.home / "leader")
    kill((supervisor_of if who == "supervisor" else keeper_of)(folder_of(remote, job)))
    assert (await job_status(remote, job)).state == "running"
    end = await end_of(remote, job)
    assert (end.exit_status, end.signal, end.stopped) == (*told, False)


async def test_j12_what_hides_from_everybody_is_ended_by_the_keeper(remote: ShellRemote) -> None:
    """It was started a moment before its supervisor was killed: nobody has written down anything of it."""
    job = await start_job(remote, ESCAPES % remote.home + WAITS, name="hides")
    escaped = await number_in(remote.home / "escaped")
    kill(supervisor_of(folder_of(remote, job)))
    assert is_alive(escaped)
    end = await end_of(remote, job)
    assert (end.exit_status, end.survivors) == (0, ())
    assert not is_alive(escaped)


async def test_j12_the_keeper_stops_it_and_keeps_its_time(remote: ShellRemote) -> None:
    job = await start_job(remote, WAITS, name="stopped")
    leader = await number_in(remote.home / "leader")
    kill(supervisor_of(folder_of(remote, job)))
    end = await stop_job(remote, job, grace_s=1)
    assert (end.state, end.signal, end.stopped) == ("signalled", "TERM", True)
    assert not is_alive(leader)
    late = await start_job(remote, Command("exec sleep 300", timeout_s=2), name="late")
    kill(supervisor_of(folder_of(remote, late)))
    end = await wait_job(remote, late)
    assert (end.signal, end.timed_out) == ("TERM", True)


async def test_j12_a_grace_that_runs_goes_on(remote: ShellRemote) -> None:
    """Killed in the middle of a stop: the program that was named gets no second TERM, and has the rest of its time."""
    counts = "import os, signal, time\nsignal.signal(15, lambda *_: open('term', 'a').write('t'))\n"
    waits = "open('up', 'w').close()\nwhile not os.path.exists('saved'): time.sleep(0.02)\nraise SystemExit(5)"
    (remote.home / "counts.py").write_text(counts + waits)
    job = await start_job(remote, "exec python3 -u counts.py", name="saves")
    await eventually((remote.home / "up").exists)
    stopping = asyncio.create_task(stop_job(remote, job, grace_s=60))
    await eventually(lambda: (remote.home / "term").exists() and (remote.home / "term").read_text())
    supervisor = supervisor_of(folder_of(remote, job))
    await eventually(lambda: (row := proc.process(supervisor)) and row.state == b"S", "it has said so to its keeper")
    kill(supervisor)
    (remote.home / "saved").touch()
    end = await stopping
    assert (end.exit_status, end.stopped) == (5, True)
    assert (remote.home / "term").read_text() == "t"


async def test_j12_a_supervisor_that_does_not_act_is_replaced(remote: ShellRemote) -> None:
    """It stands still and is woken in vain: whoever stops the job kills it, and the keeper tells the true end."""
    job = await start_job(remote, "trap '' TERM; " + WAITS, name="deaf")
    await number_in(remote.home / "leader")
    freeze = asyncio.create_task(freeze_again_and_again(supervisor_of(folder_of(remote, job))))
    end = await stop_job(remote, job, grace_s=0.2)
    freeze.cancel()
    assert (end.state, end.signal, end.stopped) == ("signalled", "KILL", True)


@pytest.mark.long
async def test_j12_a_keeper_has_its_time_for_the_line_at_the_end(remote: ShellRemote) -> None:
    """The supervisor can open nothing and does not act; docker needs some seconds to end a container."""
    line = Command("trap '' TERM; " + WAITS, on_end="sleep 6")
    job = await start_job(remote, line, name="slow")
    await number_in(remote.home / "leader")
    supervisor = supervisor_of(folder_of(remote, job))
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, 3))
    end = await stop_job(remote, job, grace_s=0.2)
    assert not is_alive(supervisor)
    assert (end.state, end.signal, end.stopped) == ("signalled", "KILL", True)


async def freeze_again_and_again(pid: int) -> None:
    while is_alive(pid):
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0)


async def test_j12_killed_at_any_moment_of_a_short_life(remote: ShellRemote) -> None:
    """From its start to its end: the end is the true one, or the start is refused and nothing of it runs."""
    for number in range(12):
        job = await start_job(remote, f"sleep 0.05; exit {number}", name=f"short-{number}")
        supervisor = supervisor_of(folder_of(remote, job))
        await asyncio.sleep(0.012 * number)
        if is_alive(supervisor):
            os.kill(supervisor, signal.SIGKILL)
        end = await wait_job(remote, job)
        assert (end.state, end.exit_status) == ("exited", number)
        assert time.time() - (end.ended_at or 0) < 60


async def test_j12_a_keeper_that_has_no_descriptor_goes_on_when_it_has_one(remote: ShellRemote) -> None:
    """As where the kernel kills because memory is short: there is none for the keeper either, for a moment."""
    job = await start_job(remote, WAITS + "exit 7", name="short")
    await number_in(remote.home / "leader")
    keeper = keeper_of(folder_of(remote, job))
    with no_descriptors(keeper):
        kill(supervisor_of(folder_of(remote, job)))
        await eventually(lambda: Path(f"/proc/{keeper}/comm").read_text() == "adeploy-job\n", "it takes over")
    assert (await end_of(remote, job)).exit_status == 7


async def test_j12_a_stop_that_a_keeper_could_not_hear_shortens_the_grace(remote: ShellRemote) -> None:
    """It stands still when its supervisor dies in the middle of a long stop, and another one comes then."""
    job = await start_job(remote, "trap '' TERM; " + WAITS, name="stops")
    await number_in(remote.home / "leader")
    stopping = asyncio.create_task(stop_job(remote, job, grace_s=60))
    supervisor, keeper = supervisor_of(folder_of(remote, job)), keeper_of(folder_of(remote, job))
    await eventually((folder_of(remote, job) / "stop").exists)
    await eventually(lambda: (row := proc.process(supervisor)) and row.state == b"S", "it has said so to its keeper")
    stopping.cancel()
    await asyncio.wait([stopping])
    await eventually(lambda: children(keeper) == [supervisor])
    os.kill(keeper, signal.SIGSTOP)
    kill(supervisor)
    end = await stop_job(remote, job, grace_s=0.2)
    assert (end.state, end.signal, end.stopped) == ("signalled", "KILL", True)


async def test_j12_a_home_that_is_away_for_a_moment_costs_no_job(remote: ShellRemote) -> None:
    """The keeper cannot look there when it takes over."""
    job = await start_job(remote, WAITS + "exit 7", name="away")
    await number_in(remote.home / "leader")
    keeper, jobs = keeper_of(folder_of(remote, job)), remote.home / ".asyncdeploy/jobs"
    supervisor = supervisor_of(folder_of(remote, job))
    jobs.rename(remote.home / "away")
    kill(supervisor)
    await eventually(lambda: Path(f"/proc/{keeper}/comm").read_text() == "adeploy-job\n", "it takes over")
    await eventually(lambda: (row := proc.process(keeper)) and row.state == b"S", "it has")
    (remote.home / "away").rename(jobs)
    assert (await end_of(remote, job)).exit_status == 7


async def test_j12_a_node_that_has_lost_its_python_knows_of_the_keeper_too(remote: ShellRemote) -> None:
    job = await start_job(remote, WAITS, name="lost")
    leader = await number_in(remote.home / "leader")
    async with ShellRemote(remote.home, python=False) as plain:
        assert (await job_status(plain, job)).state == "running"
        kill(supervisor_of(folder_of(remote, job)))
        assert (await job_status(plain, job)).state == "running"
        end = await stop_job(plain, job, grace_s=1)
    assert (end.state, end.signal, end.stopped) == ("signalled", "TERM", True)
    assert not is_alive(leader)
