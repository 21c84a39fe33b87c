"""The worker of a step of Slurm is killed, as where KILL comes at once and does not reach what has left the step."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.run.jobs import job_status, start_job, wait_job
from asyncdeploy.values.command import Command
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.waiting import eventually

SAVES = Command("trap 'echo saved >checkpoint; exit 3' TERM; echo up >up; while :; do sleep 0.1; done")
STAYS = Command("trap '' TERM; echo up >up; while :; do sleep 0.1; done")


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home") as remote:
        remote.env["ASYNCDEPLOY_STEP"] = "1"
        yield remote


async def kill_worker(remote: ShellRemote) -> None:
    await eventually((remote.home / "up").exists)
    [channel] = remote.channels
    channel.process.kill()
    await channel.process.wait()
    del remote.env["ASYNCDEPLOY_STEP"]


async def test_its_job_ends_by_itself_and_says_why(remote: ShellRemote) -> None:
    job = await start_job(remote, SAVES, name="saves")
    await kill_worker(remote)
    status = await wait_job(remote, job, timeout_s=30)
    assert (status.state, status.exit_status) == ("exited", 3)
    assert "its step of the Slurm job was killed" in status.because
    assert (remote.home / "checkpoint").read_text() == "saved\n"


async def test_one_whose_supervisor_was_killed_before_ends_too(remote: ShellRemote) -> None:
    job = await start_job(remote, STAYS, name="stays")
    supervisor = int((remote.home / ".asyncdeploy" / "jobs" / job.id / "pid").read_text().split()[2])
    os.kill(supervisor, signal.SIGKILL)
    await kill_worker(remote)
    status = await wait_job(remote, job, timeout_s=30)
    assert (status.state, status.signal) == ("signalled", "KILL")
    assert "its step of the Slurm job was killed" in status.because


async def test_elsewhere_a_job_stays_without_its_worker(remote: ShellRemote) -> None:
    del remote.env["ASYNCDEPLOY_STEP"]
    job = await start_job(remote, Command("echo up >up; while [ ! -e go ]; do sleep 0.1; done"), name="goes")
    remote.env["ASYNCDEPLOY_STEP"] = "1"
    await kill_worker(remote)
    assert (await job_status(remote, job)).state == "running"
    (remote.home / "go").touch()
    assert (await wait_job(remote, job, timeout_s=30)).exit_status == 0
