"""Detached jobs against the real programs: once, exactly, beyond our death, and swept when they are stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncdeploy.run.job import Job, new_job_id
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.run.jobs import find_job, job_status, list_jobs, read_log, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import JobExists, JobFailed, JobLost
from asyncdeploy.values.events import StageFailed, StageStarted
from tests.support.places import ROOT
from tests.support.programs.holders import kill_holders
from tests.support.programs.stubborn import STUBBORN, living, until_gone, until_written
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root
from tests.support.waiting import eventually, is_alive

TITLE = """
import os, setproctitle, time
os.setsid()
setproctitle.setproctitle("hidden")
with open("pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(300)
"""


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home") as remote:
        yield remote
        for job in await list_jobs(remote):
            await stop_job(remote, job, grace_s=0)


def folder_of(remote: ShellRemote, job: Job) -> Path:
    return remote.home / ".asyncdeploy/jobs" / job.id


@pytest.mark.parametrize(
    "line,state,status,signalled",
    [
        ("exit 0", "exited", 0, None),
        ("exit 3", "exited", 3, None),
        ("exit 137", "exited", 137, None),
        ("kill -KILL $$", "signalled", None, "KILL"),
    ],
)
async def test_the_end_is_recorded_exactly(
    remote: ShellRemote, line: str, state: str, status: int | None, signalled: str | None
) -> None:
    job = await start_job(remote, line, name="end")
    end = await wait_job(remote, job, timeout_s=20)
    assert (end.state, end.exit_status, end.signal, end.ok) == (state, status, signalled, status == 0)
    assert (end.failure() is None) == (status == 0)


async def test_env_secrets_input_and_folder(remote: ShellRemote) -> None:
    (remote.home / "work").mkdir()
    command = Command(
        'pwd; echo "$A"; cat; test "$S" = canary',
        cwd="~/work",
        env={"A": "x" * 90_000},
        secrets={"S": "canary"},
        stdin="in",
    )
    job = await start_job(remote, command, name="env", site="/site")
    assert (await wait_job(remote, job, timeout_s=20)).ok
    log = await read_log(remote, job, 200_000)
    assert log == f"{remote.home}/work\n{'x' * 90_000}\nin"
    folder = remote.home / ".asyncdeploy/jobs" / job.id
    assert not any(b"canary" in path.read_bytes() for path in folder.iterdir() if path.name != "spec.json")
    assert "canary" not in json.dumps(json.loads((folder / "spec.json").read_text())["env"])
    assert {oct(path.stat().st_mode & 0o077) for path in (folder, *folder.iterdir())} == {"0o0"}


async def test_a_repeated_start_is_one_job(remote: ShellRemote) -> None:
    # So many, because who makes the folder seldom loses the race for its lock.
    ids = [new_job_id("once") for _ in range(8)]

    async def start(job_id: str) -> None:
        await start_job(remote, f"echo {job_id} >> count", name="once", site=f"/{job_id}", job_id=job_id)

    for job_id in ids:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(start, job_id)
        await wait_job(remote, await find_job(remote, job_id), timeout_s=20)
    assert (remote.home / "count").read_text().split() == ids


async def test_one_running_job_of_a_name_on_a_site(remote: ShellRemote) -> None:
    first = await start_job(remote, "sleep 300", name="train", site="/a")
    with pytest.raises(JobExists) as caught:
        await start_job(remote, "true", name="train", site="/a")
    assert caught.value.job_id == first.id
    other = await start_job(remote, "true", name="train", site="/b")
    assert [job.id for job in await list_jobs(remote)] == [first.id, other.id]
    await stop_job(remote, first, grace_s=1)
    assert (await wait_job(remote, await start_job(remote, "true", name="train", site="/a"), timeout_s=20)).ok


async def test_what_cannot_start_leaves_nothing(remote: ShellRemote) -> None:
    with pytest.raises(JobFailed, match="/no/such"):
        await start_job(remote, Command("true", cwd="/no/such"), name="bad")
    assert await list_jobs(remote) == ()


async def test_stop_ends_everything(remote: ShellRemote) -> None:
    need("python3")
    hidden = Command.of(sys.executable, "-c", TITLE).line
    job = await start_job(remote, f"{hidden} & {STUBBORN} sleep 300", name="stubborn")
    pids = await until_written(remote.home, 5)
    end = await stop_job(remote, job, grace_s=0.5)
    assert (end.state, end.survivors) == ("signalled", ())
    assert not any(is_alive(pid) for pid in pids)


async def test_a_job_that_runs_too_long_is_ended_by_its_node(remote: ShellRemote) -> None:
    command = Command("trap 'exit 0' TERM; echo $$ > pids; while :; do sleep 0.05; done", timeout_s=0.5)
    end = await wait_job(remote, await start_job(remote, command, name="long"), timeout_s=20)
    assert (end.state, end.exit_status, end.timed_out, end.ok) == ("exited", 0, True, False)
    assert isinstance(end.failure(), JobFailed)
    assert "ran longer than its timeout_s and was ended: it exited 0" in str(end.failure())
    assert not living(remote.home)
    early = await wait_job(remote, await start_job(remote, Command("exit 0", timeout_s=60), name="early"), timeout_s=20)
    assert (early.ok, early.timed_out) == (True, False)


async def test_a_job_takes_no_local_files(remote: ShellRemote, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its log"):
        await start_job(remote, Command("true", stdout_to=tmp_path / "out"), name="files")


LATE = "echo $$ >> pids; while [ ! -e go ]; do sleep 0.05; done; echo late; exit 4"


async def test_it_survives_our_sigkill_and_is_found_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = f"""
import asyncio
from pathlib import Path
from asyncdeploy.run.jobs import start_job, wait_job
from tests.support.remotes.shell_remote import ShellRemote
async def main():
    async with ShellRemote(Path({str(home)!r})) as remote:
        job = await start_job(remote, {LATE!r}, name="deep")
        await wait_job(remote, job)
asyncio.run(main())
"""
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    try:
        await until_written(home, 1)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        await client.wait()
    async with ShellRemote(home) as remote:
        (job,) = await list_jobs(remote)
        assert (await job_status(remote, job)).state == "running"
        (home / "go").touch()
        end = await wait_job(remote, await find_job(remote, job.id), timeout_s=20)
        assert (end.state, end.exit_status, end.last_lines) == ("exited", 4, "late")


async def test_a_killed_supervisor_and_keeper_leave_an_orphan_that_can_be_stopped(remote: ShellRemote) -> None:
    job = await start_job(remote, STUBBORN + "sleep 300", name="orphan")
    pids = await until_written(remote.home, 4)
    kill_holders(folder_of(remote, job))
    with anyio.fail_after(10):
        while (await job_status(remote, job)).state != "orphaned":
            await anyio.sleep(0.02)
    end = await stop_job(remote, job, grace_s=0.3)
    assert end.state == "lost"
    assert not end.ok
    assert isinstance(end.failure(), JobLost)
    await until_gone(pids)


async def test_a_number_that_is_another_processs_now_ends_nobody(remote: ShellRemote) -> None:
    """The leader's pid and a session's number were given away after those who held the job were killed."""
    job = await start_job(remote, "exec sleep 300", name="reused")
    kill_holders(folder_of(remote, job))
    stranger = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
    try:
        folder = remote.home / ".asyncdeploy/jobs" / job.id
        leader, start, *rest = (folder / "pid").read_text().split()
        os.kill(int(leader), signal.SIGKILL)
        await until_gone([int(leader), int(rest[0])])
        earlier = int(start) - 1  # the clock's tick is 10 ms, and we were faster than that
        (folder / "sessions").write_text(f"{stranger.pid}:{earlier}")
        (folder / "pid").write_text(f"{stranger.pid} {earlier} {' '.join(rest[:4])}\n{' '.join(rest[4:])}\n")
        assert (await job_status(remote, job)).state == "lost"
        assert (await stop_job(remote, job, grace_s=0)).state == "lost"
        assert stranger.returncode is None
        assert is_alive(stranger.pid)
    finally:
        stranger.kill()
        await stranger.wait()


async def test_the_log_is_followed_from_any_byte_and_through_a_cut(remote: ShellRemote) -> None:
    job = await start_job(
        remote, "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done; printf unfinished", name="log"
    )
    got = []
    async with follow_job(remote, job) as lines:
        async for text in lines:
            got.append(text)
            if len(got) == 2:
                for channel in remote.channels:
                    channel.process.kill()
        assert lines.state == "exited"
    assert got == [f"line {number}" for number in range(1, 7)] + ["unfinished"]
    async with follow_job(remote, job, offset=8) as lines:
        assert [text async for text in lines][:2] == ["ine 2", "line 3"]
    async with follow_job(remote, job, offset=-10) as lines:
        assert [text async for text in lines] == ["unfinished"]


async def test_an_unknown_job_is_lost_never_a_success(remote: ShellRemote) -> None:
    with pytest.raises(JobLost):
        await find_job(remote, "never-aaaaaaaa")
    assert (await job_status(remote, Job(remote.node, "never-aaaaaaaa"))).state == "lost"


async def test_two_machines_share_a_home(remote: ShellRemote) -> None:
    need("unshare")
    need_root()
    job = await start_job(remote, "sleep 300", name="shared")
    other = ("unshare", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-c", 'hostname other; exec sh -c "$1"', "sh")
    async with ShellRemote(remote.home, shell=other) as elsewhere:
        assert (await job_status(elsewhere, job)).state == "elsewhere"
        assert (await stop_job(elsewhere, job)).state == "elsewhere"
    assert (await job_status(remote, job)).state == "running"


async def test_cancelling_a_start_leaves_nothing_running(remote: ShellRemote) -> None:
    await start_job(remote, "true", name="warm")
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04):
        job = None
        with anyio.move_on_after(delay):
            job = await start_job(remote, "echo $$ >> pids; sleep 300", name="cancelled")
        if job is not None:
            await stop_job(remote, job, grace_s=0)
        states = {(await job_status(remote, job)).state for job in await list_jobs(remote)}
        assert states <= {"exited", "signalled"}
    assert not living(remote.home)


async def test_a_start_that_is_cancelled_is_said_to_have_ended(remote: ShellRemote) -> None:
    """For ever "start ..." on a screen otherwise."""
    starting = asyncio.create_task(start_job(remote, "sleep 300", name="cancelled"))
    await eventually(lambda: any(isinstance(event, StageStarted) for event in remote.events))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    ended = remote.events[-1]
    assert isinstance(ended, StageFailed)
    assert (ended.stage, ended.error) == ("start", "cancelled")
