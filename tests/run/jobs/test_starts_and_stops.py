"""J2, J3, J5 to J8, J10: a start is known or is not, and a stop stops, whatever disks, signals and cut files do."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from asyncdeploy.node_side import proc
from asyncdeploy.node_side.run.supervising import end_record
from asyncdeploy.run.job import Job, new_job_id
from asyncdeploy.run.jobs import find_job, job_status, list_jobs, start_job, stop_job, wait_job
from asyncdeploy.values.errors import DeployError, JobFailed
from tests.support.beds import disks
from tests.support.programs.holders import kill_holders, supervisor_of
from tests.support.remotes.killing import failing, killing, slowed
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need
from tests.support.waiting import eventually, is_alive

WAITS = "echo $$ >$HOME/leader; sleep 1000"


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home") as remote:
        yield remote
        for job in await list_jobs(remote):
            await stop_job(remote, job, grace_s=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "small", 2) as folder:
        yield folder


def folder_of(remote: ShellRemote, job: Job) -> Path:
    return remote.home / ".asyncdeploy/jobs" / job.id


def leaders(remote: ShellRemote) -> list[int]:
    """The leader that said so, if it lives."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((remote.home / "leader").read_text())
        return [pid] if is_alive(pid) else []
    return []


async def until_led(remote: ShellRemote) -> int:
    await eventually(lambda: leaders(remote) != [], "the job runs")
    return leaders(remote)[0]


# --- J2, J3: a stop stops


async def test_j2_a_job_that_has_filled_its_disk_is_stopped_with_the_grace_that_was_asked_for(small_disk: Path) -> None:
    async with ShellRemote(small_disk / "home") as remote:
        line = (
            "trap 'echo saved >/dev/shm/$$; exit 3' TERM; echo $$ >leader; cat /dev/zero >all 2>/dev/null; sleep 1000"
        )
        job = await start_job(remote, line, name="fills")
        pid = await until_led(remote)
        await eventually(lambda: os.statvfs(small_disk).f_bavail == 0, "the disk is full")
        status = await stop_job(remote, job, grace_s=0.2)
        assert (status.state, status.stopped) in [("exited", True), ("signalled", True)]
        assert not is_alive(pid)
        assert (folder_of(remote, job) / "stop").read_text().strip() == '{"grace_s": 0.2}'
        Path(f"/dev/shm/{pid}").unlink(missing_ok=True)


async def test_j3_a_supervisor_that_somebody_has_stopped_obeys_all_the_same(remote: ShellRemote) -> None:
    job = await start_job(remote, WAITS, name="held")
    pid = await until_led(remote)
    os.kill(supervisor_of(folder_of(remote, job)), signal.SIGSTOP)
    status = await stop_job(remote, job, grace_s=0.5)
    assert status.state == "signalled"
    assert not is_alive(pid)


async def test_j3_a_second_stop_may_shorten_the_grace(remote: ShellRemote) -> None:
    job = await start_job(
        remote, f"trap '' TERM; {WAITS.replace('sleep 1000', 'while :; do sleep 0.1; done')}", name="deaf"
    )
    pid = await until_led(remote)
    first = asyncio.create_task(stop_job(remote, job, grace_s=1000))
    await eventually((folder_of(remote, job) / "stop").exists)
    async with asyncio.timeout(60):
        assert (await stop_job(remote, job, grace_s=0.2)).state == "signalled"
        assert (await first).state == "signalled"
    assert not is_alive(pid)


# --- J5, J10: a file that was cut


async def test_j3_a_job_that_ends_as_it_is_stopped_has_its_own_end(remote: ShellRemote) -> None:
    """Whoever holds it is found, and has left before the signal reaches it."""
    job = await start_job(remote, "until [ -e $HOME/go ]; do sleep 0.02; done; exit 7", name="ends")
    async with ShellRemote(remote.home, shell=slowed("kill", 2.0)) as late:
        stopping = asyncio.create_task(stop_job(late, job, grace_s=1))
        await eventually((folder_of(remote, job) / "stop").exists)
        (remote.home / "go").touch()
        end = await stopping
    assert (end.state, end.exit_status, end.stopped) == ("exited", 7, False)


@pytest.mark.parametrize("name", ["pid", "sessions", "spec.json", "stop", "times"])
async def test_j10_a_file_cut_in_a_word_breaks_neither_status_nor_stop(remote: ShellRemote, name: str) -> None:
    others = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
    job = await start_job(remote, WAITS, name="cut")
    pid = await until_led(remote)
    file = folder_of(remote, job) / name
    if name in ("pid", "sessions"):
        await eventually(file.exists)
    text = file.read_bytes() if file.exists() else b'{"grace_s": 5}'
    for length in sorted({0, 1, len(text) // 3, len(text) // 2, len(text) - 1}):
        file.write_bytes(text[:length])
        assert (await job_status(remote, job)).state in ("running", "orphaned", "starting"), (name, length)
    for nonsense in (b"[]", b"7", b'"x"', b"\xff\xfe", b"9" * 5000, b"9" * 5000 + b":1 ", b"[" * 5000):
        file.write_bytes(nonsense)
        assert (await job_status(remote, job)).state in ("running", "orphaned", "starting"), (name, nonsense[:9])
    await stop_job(remote, job, grace_s=0.2)
    await eventually(lambda: not is_alive(pid))
    assert is_alive(others.pid)
    others.kill()
    await others.wait()


async def test_j5_a_pid_file_that_names_nobody_lets_nobody_else_be_killed(remote: ShellRemote) -> None:
    job = await start_job(remote, WAITS, name="lost")
    pid = await until_led(remote)
    text = (folder_of(remote, job) / "pid").read_text()
    kill_holders(folder_of(remote, job))
    (folder_of(remote, job) / "pid").write_text("\n" + text.split("\n", 1)[1])
    (folder_of(remote, job) / "sessions").write_text("0:0 ")
    assert (await job_status(remote, job)).state == "orphaned"
    await stop_job(remote, job, grace_s=0.2)
    assert not is_alive(pid)
    assert (await job_status(remote, job)).state == "lost"


# --- J6, J7, J8: a start is known or is not


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("how", ["ENOSPC at an fsync", "EIO at an fsync", "killed at a rename"])
async def test_j6_what_could_not_be_started_does_not_run(tmp_path: Path, how: str, count: int) -> None:
    shell = killing("rename", count) if "killed" in how else failing("fsync", how.split()[0], count)
    async with ShellRemote(tmp_path / "home", shell=shell) as doomed:
        job_id = new_job_id("odd")
        try:
            await start_job(doomed, WAITS, name="odd", job_id=job_id)
            started = True
        except DeployError as error:
            started = False
            known = isinstance(error, JobFailed)
    async with ShellRemote(tmp_path / "home") as later:
        if started:
            ended = await stop_job(later, await find_job(later, job_id), grace_s=0)
            assert ended.state == "signalled" or (ended.state == "lost" and "killed" in how)
        elif known:
            assert leaders(later) == [], "told as not started, and nothing of it runs"
            assert await list_jobs(later) == ()
        else:  # the line broke: the same id may be tried again, and then there is one job
            job = await start_job(later, WAITS, name="odd", job_id=job_id)
            assert (await job_status(later, job)).state == "running"
            assert (await stop_job(later, job, grace_s=0)).state == "signalled"
        await eventually(lambda: leaders(later) == [])


async def test_j6_a_supervisor_that_dies_over_its_start_leaves_no_daemon(tmp_path: Path) -> None:
    """One that hides, known to nobody but the keeper, is ended before the start is said to have failed."""
    line = "(setsid env -i sh -c 'echo $$ >%s/escaped; exec sleep 300' &)\n" % (tmp_path / "home")
    async with ShellRemote(tmp_path / "home", shell=slowed("rename", 1.5)) as remote:
        start = asyncio.create_task(start_job(remote, line + WAITS, name="dies"))
        leader = await until_led(remote)
        escaped = remote.home / "escaped"
        await eventually(lambda: escaped.exists() and escaped.read_text())
        row = proc.process(leader)
        assert row is not None
        os.kill(row.parent, signal.SIGKILL)
        with pytest.raises(JobFailed, match="its supervisor died"):
            await start
        assert not is_alive(leader)
        assert not is_alive(int(escaped.read_text()))


async def test_j7_a_start_that_waits_for_a_lock_hears_that_it_was_cancelled(remote: ShellRemote) -> None:
    first = await start_job(remote, "true", name="first")
    await wait_job(remote, first)
    with (remote.home / ".asyncdeploy/jobs/.names").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        task = asyncio.create_task(start_job(remote, WAITS, name="waits"))
        jobs = remote.home / ".asyncdeploy/jobs"
        await eventually(lambda: [path.name for path in jobs.glob("waits-*")] != [], "it waits")
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    again = await start_job(remote, "true", name="waits")  # nothing holds the name
    assert (await wait_job(remote, again)).ok
    assert leaders(remote) == []


async def test_j8_a_start_cancelled_while_its_window_is_opened_leaves_no_job(
    remote: ShellRemote, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "tmux").write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && echo tmux 3.4 && exit\ntouch {tmp_path}/opens\nsleep 30\n'
    )
    (programs / "tmux").chmod(0o755)
    remote.env["PATH"] = f"{programs}:{os.environ['PATH']}"
    task = asyncio.create_task(start_job(remote, WAITS, name="seen", tmux=True))
    await eventually((tmp_path / "opens").exists)
    pid = await until_led(remote)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not is_alive(pid)


# --- J9: an end is not lost


@pytest.mark.parametrize("call", ["pwrite64,write", "fsync", "rename"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
async def test_j9_a_disk_that_fails_once_at_the_end_loses_no_status(tmp_path: Path, call: str, error: str) -> None:
    async with ShellRemote(tmp_path / "home") as remote:
        job = await start_job(
            remote, "echo $$ >$HOME/leader; until [ -e $HOME/go ]; do sleep 0.05; done; exit 7", name="ends"
        )
        await until_led(remote)
        need("strace")
        inject = [word for name in call.split(",") for word in ("-e", f"inject={name}:error={error}:when=1")]
        words = [
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            *inject,
            "-p",
            str(supervisor_of(folder_of(remote, job))),
        ]
        tracer = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
        status = Path(f"/proc/{supervisor_of(folder_of(remote, job))}/status")
        await eventually(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "it is traced")
        (remote.home / "go").touch()
        assert (await wait_job(remote, job, timeout_s=60)).exit_status == 7
        await tracer.wait()


def test_j9_an_end_that_is_too_long_for_its_room_is_cut_where_people_read() -> None:
    end = {
        "status": 3,
        "signal": None,
        "ended_at": 1.5,
        "survivors": [f"{n} {'é' * 60}" for n in range(50)],
        "path": "/x" * 500,
    }
    data = end_record.fitted(end)
    assert len(data) <= end_record.ROOM
    assert {**json.loads(data), "survivors": 0, "path": 0} == {**end, "survivors": 0, "path": 0}
