"""Disks of a node that lack something (P5, P6, P7), and trees that are too deep (P17): said in words."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncdeploy.push.push import finish_push, push_code
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import job_status, start_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError, JobExists, NodeFull, TransferFailed, WorkspaceBusy, WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.disks import exfat_disk, refused
from tests.support.events import details
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import find
from tests.support.trees import small_disk, tree, write
from tests.support.waiting import eventually

WAYS = ["python", "dash", "busybox"]


def node(way: str, home: Path, *words: str) -> ShellRemote:
    """A node with or without python3, whose shell runs behind some words."""
    remote = ShellRemote(home) if way == "python" else PlainRemote(home, way)
    if words:  # by its whole path: the node's own PATH need not have it
        remote.shell = (str(find(words[0])), *words[1:], *remote.shell)
    return remote


# --- P5: no permission bits, no links


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
@pytest.mark.parametrize("way", WAYS)
async def test_p5_a_disk_without_permission_bits_is_named(way: str, error: str, tmp_path: Path, source: Path) -> None:
    words = refused("chmod", "fchmod", "fchmodat", error=error)
    async with node(way, tmp_path / "home", *words) as remote:
        with pytest.raises(TransferFailed, match=r"the disk at .*/home/proj has no permission bits") as caught:
            await push_code(remote, source)
    assert "remote_path on another disk" in caught.value.hint
    assert tree(tmp_path / "home/proj") == {}


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
@pytest.mark.parametrize("way", WAYS)
async def test_p5_a_disk_without_links_is_named(way: str, error: str, tmp_path: Path, source: Path) -> None:
    words = refused("symlink", "symlinkat", error=error)
    async with node(way, tmp_path / "home", *words) as remote:
        with pytest.raises(TransferFailed, match=r"the disk at .*/home/proj has no symbolic links") as caught:
            await push_code(remote, source)
        assert "remote_path on another disk" in caught.value.hint
        assert tree(tmp_path / "home/proj") == {}
        await push_code(remote, Workspace(source, exclude="link"))
    assert (tmp_path / "home/proj/a.py").exists()


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    with exfat_disk(tmp_path / "exfat") as where:
        yield where


@pytest.mark.parametrize("way", WAYS)
async def test_p5_a_real_exfat_disk_which_all_may_write_to(way: str, exfat: Path, tmp_path: Path, source: Path) -> None:
    async with node(way, tmp_path / "home") as remote:
        with pytest.raises(WorkspaceConflict, match=f"every user of the node may write to {exfat}") as caught:
            await push_code(remote, Workspace(source, remote_path=str(exfat / "proj")))
    assert "a disk that takes no chmod is mounted with umask=022" in caught.value.hint
    assert list(exfat.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
async def test_e15_two_names_that_a_disk_takes_for_one_are_named(way: str, tmp_path: Path) -> None:
    """The second one had taken the place of the first, and the push was a success."""
    source = tmp_path / "proj"
    write(source, {"README": "large", "src/a.py": "a"})
    with exfat_disk(tmp_path / "exfat", options="umask=022") as disk:
        async with node(way, tmp_path / "home") as remote:
            workspace = Workspace(source, remote_path=str(disk / "proj"))
            await push_code(remote, workspace)
            write(source, {"readme": "small"})
            with pytest.raises(TransferFailed, match="has no names that differ by case alone: README and readme"):
                await push_code(remote, workspace)
            (source / "README").unlink()
            with pytest.raises(TransferFailed, match="README and readme"):
                await push_code(remote, workspace)
        assert (disk / "proj" / "README").read_text() == "large"
        assert sorted(path.name for path in (disk / "proj").iterdir()) == [".asyncdeploy", "README", "src"]


# --- P6: read-only and full


@pytest.mark.parametrize("way", WAYS)
async def test_p6_a_full_disk_is_named_and_the_old_tree_stands(way: str, tmp_path: Path, source: Path) -> None:
    async with small_disk(tmp_path / "home", "size=2m,mode=700") as disk, node(way, disk) as remote:
        await push_code(remote, source)
        before = tree(disk / "proj")
        write(source, {"a.py": "new", "new": os.urandom(100_000)})
        subprocess.run(f"head -c 3000000 /dev/zero > '{disk}/all of it'", shell=True, check=False, stderr=-3)
        with pytest.raises(NodeFull, match="no room at"):
            await push_code(remote, source)
        assert tree(disk / "proj") == before
        other = Workspace(source, remote_path="~/other")
        with pytest.raises(DeployError, match=r"no room at|No space") as caught:
            await push_code(remote, other)
        assert "Traceback" not in str(caught.value)
        (disk / "all of it").unlink()
        await push_code(remote, source)
        assert tree(disk / "proj") == tree(source)


@pytest.mark.parametrize("way", WAYS)
async def test_p6_a_read_only_disk_is_named(way: str, tmp_path: Path, source: Path) -> None:
    async with small_disk(tmp_path / "home", "size=2m,mode=700") as disk, node(way, disk) as remote:
        site = await push_code(remote, source)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        write(source, {"a.py": "new"})
        for workspace in (Workspace(source), Workspace(source, remote_path="~/other")):
            with pytest.raises(TransferFailed, match="Read-only file system") as caught:
                await push_code(remote, workspace)
            assert "mounted read-only" in caught.value.hint
        await finish_push(remote, site.path)


# --- P7: no locks


@asynccontextmanager
async def unlocked(way: str, home: Path, error: str) -> AsyncIterator[ShellRemote]:
    """A node whose file systems have no flock."""
    async with node(way, home, *refused("flock", error=error)) as remote:
        yield remote


@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
@pytest.mark.parametrize("way", WAYS)
async def test_p7_a_file_system_without_locks_is_pushed_to(
    way: str, error: str, tmp_path: Path, source: Path, site: Path
) -> None:
    async with unlocked(way, tmp_path / "home", error) as remote:
        await push_code(remote, source)
        write(source, {"a.py": "new"})
        await push_code(remote, source)
        assert tree(site) == tree(source)
        await push_code(remote, source)
        assert details(remote.events)[-1] == "= unchanged"
    assert not (site / ".asyncdeploy/lock.d").exists()


@pytest.mark.parametrize("way", WAYS)
async def test_p7_without_locks_it_is_still_one_deployer_at_a_time(
    way: str, tmp_path: Path, source: Path, site: Path
) -> None:
    async with unlocked(way, tmp_path / "home", "ENOLCK") as remote:
        await push_code(remote, source)
        held = subprocess.Popen(["sleep", "60"])
        start = Path(f"/proc/{held.pid}/stat").read_text().rpartition(")")[2].split()[19]
        lock = site / ".asyncdeploy/lock.d"
        lock.mkdir()
        write(lock, {"owner": f"{os.uname().nodename} {held.pid} {start}\n", "holder": "rival"})
        write(source, {"a.py": "new"})
        try:
            with pytest.raises(WorkspaceBusy, match="rival"):
                await push_code(remote, source, wait_s=0)
        finally:
            held.kill()
            held.wait()
        await push_code(remote, source)  # who held it is gone
        assert tree(site) == tree(source)


async def test_p7_a_deployer_that_is_killed_does_not_hold_a_site_without_locks(
    tmp_path: Path, source: Path, site: Path
) -> None:
    home = tmp_path / "home"
    async with unlocked("python", home, "ENOLCK") as remote, unlocked("dash", home, "ENOLCK") as other:
        await push_code(remote, source)
        write(source, {f"big/{number}": os.urandom(400_000) for number in range(40)})
        task = asyncio.create_task(push_code(remote, source))
        await eventually(lambda: (site / ".asyncdeploy/lock.d/holder").exists() or task.done(), "it holds the site")
        for channel in remote.channels:
            os.killpg(channel.process.pid, signal.SIGKILL)
        with pytest.raises(DeployError):
            await task
        await push_code(other, source)
        assert tree(site) == tree(source)


@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
async def test_p7_a_job_is_started_once_where_there_are_no_locks(error: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with unlocked("python", home, error) as remote, unlocked("python", home, error) as other:
        line = "echo once >> log; until [ -e go ]; do sleep 0.02; done"
        tries = [start_job(one, Command(line, cwd=str(home)), name="train", site="/s") for one in (remote, other)]
        done = await asyncio.gather(*tries, return_exceptions=True)
        jobs = [one for one in done if isinstance(one, Job)]
        assert [type(one) for one in done if not isinstance(one, Job)] == [JobExists]
        assert (await job_status(other, jobs[0])).state == "running"
        (home / "go").touch()
        assert (await wait_job(other, jobs[0])).ok
        assert (home / "log").read_text() == "once\n"


# --- P17


async def test_p17_a_tree_that_is_too_deep_is_refused_in_few_words(either: ShellRemote, source: Path) -> None:
    write(source, {"/".join(["d"] * 500) + "/x": "x"})
    with pytest.raises(TransferFailed, match="at most 400 folders in folders were expected") as caught:
        await push_code(either, source)
    assert len(str(caught.value)) < 600
    assert not (either.home / "proj").exists()


async def test_p17_a_deep_tree_comes_and_goes(either: ShellRemote, source: Path, site: Path) -> None:
    write(source, {"/".join(["d"] * 390) + "/x": "x"})
    await push_code(either, source)
    assert (site / "/".join(["d"] * 390) / "x").read_text() == "x"
    (source / "d").rename(source.with_name("gone"))
    write(source, {"d": "a file now"})
    await push_code(either, source)
    assert (site / "d").read_text() == "a file now"
