"""J1: a machine that is given another name is the same machine: boot id, pid namespace and pid 1 say so."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asyncdeploy.node_side import proc
from asyncdeploy.push.push import push_code
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import job_status, start_job, stop_job, wait_job
from asyncdeploy.values.errors import JobExists, WorkspaceBusy
from asyncdeploy.values.workspace import Workspace
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root

RENAMED = ("unshare", "--uts", "sh", "-c", 'hostname renamed-here && exec "$@"', "sh")


@pytest.fixture(params=["python", "dash", "busybox"])
async def names(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ShellRemote, ShellRemote]]:
    """A node, and the same under another name."""
    need_root()
    need("unshare")
    async with AsyncExitStack() as stack:
        pair = [
            ShellRemote(tmp_path / "home")
            if request.param == "python"
            else PlainRemote(tmp_path / "home", request.param)
            for _ in range(2)
        ]
        for remote in pair:
            await stack.enter_async_context(remote)
        pair[1].shell = (*RENAMED, *pair[1].shell)
        yield pair[0], pair[1]


async def test_j1_a_job_goes_on_under_another_name(names: tuple[ShellRemote, ShellRemote]) -> None:
    before, after = names
    job = await start_job(before, "sleep 300", name="train", site="/site")
    assert (await job_status(after, job)).state == "running"
    assert (await wait_job(after, job, timeout_s=0.1)).state == "running"
    with pytest.raises(JobExists):
        await start_job(after, "true", name="train", site="/site")
    assert (await stop_job(after, job, grace_s=1)).stopped
    assert (await job_status(before, job)).ended


async def test_j1_no_push_goes_under_a_job_of_the_former_name(
    names: tuple[ShellRemote, ShellRemote], project: Path
) -> None:
    before, after = names
    (project / "a").write_text("1")
    site = await push_code(before, Workspace(project, remote_path="~/site"))
    job = await start_job(before, "until test -e ~/go; do sleep 0.05; done", name="train", site=site.path)
    (project / "a").write_text("2")
    with pytest.raises(WorkspaceBusy, match=rf"{job.id}(?! on)"):
        await push_code(after, Workspace(project, remote_path="~/site"))
    (after.home / "go").touch()
    assert (await wait_job(before, job, timeout_s=20)).ok
    await push_code(after, Workspace(project, remote_path="~/site"))


@pytest.mark.parametrize("name, state", [("", "lost"), ("other", "elsewhere")])
async def test_j1_another_boot_is_not_this_one(names: tuple[ShellRemote, ShellRemote], name: str, state: str) -> None:
    remote, _ = names
    job = await start_job(remote, "sleep 300", name="old")
    path = pid_file(remote, job)
    now = path.read_text()
    assert proc.place() in now
    host = name or proc.host_of(proc.place())
    path.write_text(re.sub(r"\n.*\n", f"\n{'0' * 8}-before:1:2:{host}\n", now))
    assert (await job_status(remote, job)).state == state
    path.write_text(now)
    assert (await stop_job(remote, job, grace_s=0)).ended


def pid_file(remote: ShellRemote, job: Job) -> Path:
    return remote.home / ".asyncdeploy/jobs" / job.id / "pid"
