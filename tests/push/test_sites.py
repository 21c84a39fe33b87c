"""Whose site it is, what runs in it, and one deployer at a time."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.run.jobs import start_job, stop_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import WorkspaceBusy, WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root
from tests.support.trees import tree, write
from tests.support.waiting import eventually


async def test_a_folder_that_is_not_ours_is_refused(remote: ShellRemote, source: Path, site: Path) -> None:
    write(site, {"theirs": "x"})
    with pytest.raises(WorkspaceConflict, match="not made by us"):
        await push_code(remote, source)
    assert tree(site) == {"theirs": ("file", 0o644, b"x")}
    assert not (site / ".asyncdeploy").exists()
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert tree(site) == {**tree(source), "theirs": ("file", 0o644, b"x")}


async def test_another_project_is_refused_by_name(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    await push_code(remote, source)
    other = tmp_path / "other"
    write(other, {"a.py": "other"})
    with pytest.raises(WorkspaceConflict, match=f"belongs to another project: {source}"):
        await push_code(remote, Workspace(other, remote_path="~/proj"))
    await push_code(remote, Workspace(other, remote_path="~/proj", on_conflict="overwrite"))
    assert tree(site) == tree(other)


async def test_h7_a_folder_somebody_else_prepared_is_not_used(
    remote: ShellRemote, source: Path, tmp_path: Path
) -> None:
    need_root()
    shared = tmp_path / "shared"
    (shared / ".asyncdeploy").mkdir(parents=True)
    os.chown(shared / ".asyncdeploy", 12345, 12345)
    with pytest.raises(WorkspaceConflict, match="somebody else made it"):
        await push_code(remote, Workspace(source, remote_path=str(shared), on_conflict="overwrite"))
    (shared / ".asyncdeploy").rmdir()
    (shared / ".asyncdeploy").symlink_to(tmp_path)
    with pytest.raises(WorkspaceConflict, match="somebody else made it"):
        await push_code(remote, Workspace(source, remote_path=str(shared), on_conflict="overwrite"))
    assert [path.name for path in shared.iterdir()] == [".asyncdeploy"]


async def test_e8_a_job_in_the_site_keeps_changes_out(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    job = remote.home / ".asyncdeploy" / "jobs" / "train-abcdefgh"
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    write(job, {"spec.json": f'{{"name": "train", "site": "{site}"}}', "pid": f"{os.getpid()} {start}"})
    await push_code(remote, source)
    write(source, {"a.py": "new"})
    with pytest.raises(WorkspaceBusy, match="train-abcdefgh"):
        await push_code(remote, source)
    assert (site / "a.py").read_text() == "print(1)\n"
    write(job, {"exit": "0"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


# --- the lock


async def test_e6_many_deployers_at_once_all_end_well(tmp_path: Path, source: Path, site: Path) -> None:
    write(source, {f"many/{number}": os.urandom(3000) for number in range(200)})
    async with AsyncExitStack() as stack:
        remotes = [await stack.enter_async_context(ShellRemote(tmp_path / "home", name=f"n{n}")) for n in range(4)]
        await asyncio.gather(*(push_code(remote, source) for remote in remotes))
    assert tree(site) == tree(source)


@asynccontextmanager
async def held(site: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Another deployer that holds the site."""
    need("flock")
    line = f"flock {site}/.asyncdeploy/lock sh -c 'echo rival > {site}/.asyncdeploy/lock; echo held; exec sleep 60'"
    process = subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


async def test_e7_a_busy_site_names_its_holder(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    async with held(site):
        with pytest.raises(WorkspaceBusy, match="rival"):
            await push_code(remote, source, wait_s=0)


async def test_e7_the_next_one_gets_in_when_the_holder_dies(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(source, {"a.py": "new"})
    async with held(site) as holder, asyncio.TaskGroup() as group:
        task = group.create_task(push_code(remote, source))
        await eventually(lambda: waits_for_lock(site), "the push looks at the lock")
        os.killpg(holder.pid, signal.SIGKILL)
        await task
    assert tree(site) == tree(source)


def waits_for_lock(site: Path) -> bool:
    """Whether two processes have the lock's file open: the holder and the one that waits."""
    line = ["sh", "-c", f"ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c -- '-> {site}/.asyncdeploy/lock$'"]
    found = subprocess.run(line, capture_output=True, check=False)
    return int(found.stdout) >= 3  # flock and its sleep hold one each


# --- P15: a home that machines share


async def test_p15_a_job_of_another_machine_keeps_changes_out(either: ShellRemote, source: Path, site: Path) -> None:
    await push_code(either, source)
    job = either.home / ".asyncdeploy" / "jobs" / "train-abcdefgh"
    pids = f"{os.getpid()} 1 {os.getpid()} 1\nb0075d:2:402:another-host\n"
    write(job, {"spec.json": f'{{"name": "train", "site": "{site}"}}', "pid": pids})
    await push_code(either, source)
    write(source, {"a.py": "new"})
    with pytest.raises(WorkspaceBusy, match="train-abcdefgh on another-host"):
        await push_code(either, source)
    assert (site / "a.py").read_text() == "print(1)\n"
    await push_code(either, Workspace(source, under_jobs="overwrite"))
    write(source, {"a.py": "newer"})
    write(job, {"exit": "{}"})
    await push_code(either, source)
    assert (site / "a.py").read_text() == "newer"


async def test_p15_a_push_through_one_machine_does_not_go_under_the_job_of_another(
    start_sshd: Callable[..., SshdNode], source: Path
) -> None:
    need_root()
    first = start_sshd("first", own_pids=True)
    second = start_sshd("second", own_pids=True, home=first.home)
    async with pool_for(first) as pool:
        pushed = await push_code(pool.at(first.node), source)
        job = await start_job(pool.at(second.node), Command("exec sleep 300"), name="train", site=pushed)
        write(source, {"a.py": "new"})
        for sshd in (first, second):
            with pytest.raises(WorkspaceBusy, match=job.id):
                await push_code(pool.at(sshd.node), source)
        await stop_job(pool.at(second.node), job)
        await push_code(pool.at(first.node), source)
    assert (first.home / "proj/a.py").read_text() == "new"
