"""J11: where thousands of jobs have ended a start and a push look at none of them, and a bounded number is kept."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.node_side.run import retention
from asyncdeploy.push.push import push_code
from asyncdeploy.run.job import Job, new_job_id
from asyncdeploy.run.jobs import start_job, stop_job, wait_job
from asyncdeploy.values.errors import JobExists, WorkspaceBusy
from asyncdeploy.values.workspace import Workspace
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.waiting import eventually

DAY_S = 86400.0


@pytest.fixture(params=[True, False], ids=["python", "sh"])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home", python=request.param) as remote:
        yield remote
        for name in (jobs_of(remote) / ".live").iterdir():
            await stop_job(remote, Job(remote.node, name.name, "any"), grace_s=0)


def jobs_of(remote: ShellRemote) -> Path:
    return remote.home / ".asyncdeploy/jobs"


def known(remote: ShellRemote) -> set[str]:
    return {path.name for path in jobs_of(remote).iterdir() if not path.name.startswith(".")}


def write_ended(remote: ShellRemote, count: int, *, ended_at: float) -> list[str]:
    """Folders of jobs that ended; of the first is known a second less for how long than of the next."""
    ids = [new_job_id("old") for _ in range(count)]
    for number, job_id in enumerate(ids):
        folder = jobs_of(remote) / job_id
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(f'{{"id": "{job_id}", "name": "old", "site": ""}}')
        (folder / "exit").write_text('{"status": 0, "ended_at": 1}')
        os.utime(folder / "exit", (ended_at + number, ended_at + number))
        os.utime(folder, (ended_at + number, ended_at + number))
    return ids


async def test_j11_a_start_and_a_push_read_no_job_that_has_ended(remote: ShellRemote, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("1")
    write_ended(remote, 5, ended_at=time.time() - 10)
    first = await start_job(remote, "true", name="first")  # makes the list of those that may run
    await wait_job(remote, first)
    for spec in jobs_of(remote).glob("*/spec.json"):
        if spec.parent.name != first.id:
            spec.unlink()
            os.mkfifo(spec)  # whoever reads it waits for ever
    second = await start_job(remote, "sleep 1000", name="old", site=str(remote.home / "code"))
    await push_code(remote, Workspace(tmp_path / "code", remote_path="~/other"))
    with pytest.raises(JobExists):
        await start_job(remote, "true", name="old", site=str(remote.home / "code"))
    await stop_job(remote, second, grace_s=0)
    third = await start_job(remote, "true", name="old", site=str(remote.home / "code"))
    await wait_job(remote, third)
    for spec in jobs_of(remote).glob("*/spec.json"):
        if spec.is_fifo():
            spec.unlink()
            spec.write_text("{}")


async def test_j11_a_job_of_an_older_asyncdeploy_is_seen_all_the_same(remote: ShellRemote, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    site = await push_code(remote, Workspace(tmp_path / "code", remote_path="~/code"))
    job = await start_job(remote, "sleep 1000", name="train", site=site)
    for name in (jobs_of(remote) / ".live").iterdir():
        name.unlink()
    (jobs_of(remote) / ".live").rmdir()  # it kept no such list
    (tmp_path / "code/a.py").write_text("1")
    with pytest.raises(WorkspaceBusy, match=job.id):
        await push_code(remote, Workspace(tmp_path / "code", remote_path="~/code"))
    with pytest.raises(JobExists):
        await start_job(remote, "true", name="train", site=site)


async def test_j11_a_job_that_ends_leaves_a_bounded_number_behind(remote: ShellRemote) -> None:
    """The newest thousand are kept, and none for longer than a month."""
    young = write_ended(remote, retention.KEPT + 20, ended_at=time.time() - 5000)
    old = write_ended(remote, 30, ended_at=time.time() - 31 * DAY_S)
    job = await start_job(remote, "true", name="last")
    await wait_job(remote, job)
    wanted = {*young[21:], job.id}
    await eventually(lambda: known(remote) == wanted)
    assert not set(old) & wanted


async def test_j11_what_runs_is_never_removed_however_old(tmp_path: Path) -> None:
    async with ShellRemote(tmp_path / "home") as remote:
        runs = await start_job(remote, "sleep 1000", name="runs")
        for path in (*(jobs_of(remote) / runs.id).iterdir(), jobs_of(remote) / runs.id):
            os.utime(path, (1, 1))
        old = write_ended(remote, retention.KEPT_ALWAYS + 3, ended_at=1000.0)
        ended = await start_job(remote, "true", name="ended")
        await wait_job(remote, ended)
        await eventually(lambda: known(remote) == {runs.id, ended.id, *old[4:]})
        assert (await stop_job(remote, runs, grace_s=0)).state == "signalled"
