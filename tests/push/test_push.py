"""Push by the real receiver behind a local shell: what travels, what is put in place, what is never touched."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.push.answer import read_answer
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import finish_push, push_code
from asyncdeploy.remote.transport import Channel
from asyncdeploy.values.errors import (
    ConnectionLost,
    DeployError,
    NodeFull,
    ProtocolError,
    TransferFailed,
    WorkspaceBusy,
    WorkspaceConflict,
)
from asyncdeploy.values.events import BytesMoved, StageFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import details, notes
from tests.support.remotes.killing import killing
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root
from tests.support.trees import small_disk, tree, write
from tests.support.waiting import eventually

# --- what travels and what is put in place


async def test_a_cold_push_brings_the_tree_as_it_is(remote: ShellRemote, source: Path, site: Path) -> None:
    os.utime(source / "a.py", ns=(1, 1_234_567_890_123_456_789))
    (source / "src/b.py").chmod(0o640)
    pushed = await push_code(remote, source)
    assert pushed.path == str(site)
    assert pushed.workdir == str(site)
    assert tree(site) == tree(source)
    assert (site / "a.py").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert stat.S_IMODE((site / ".asyncdeploy").stat().st_mode) == 0o700
    assert list((site / ".asyncdeploy" / "staging").iterdir()) == []
    assert not (site / ".asyncdeploy" / "journal").exists()
    moved = [event for event in remote.events if isinstance(event, BytesMoved)]
    assert moved[-1].done == moved[-1].total > 5000


class Counted(ShellRemote):
    """Counts frames: kind by kind, those that we send."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.sent: list[bytes] = []

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        channel = await super().open(line, kind=kind)
        send = channel.send if not channel.reused else None
        if send is not None:
            channel.send = lambda data: (self.sent.append(bytes(data[:1])), send(data))[1]
        return channel


async def test_unchanged_is_one_request_and_one_answer(tmp_path: Path, source: Path) -> None:
    async with Counted(tmp_path / "home") as remote:
        first = await push_code(remote, source)
        opens = remote.opens
        remote.sent.clear()
        assert await push_code(remote, source) == first
        assert remote.sent == [b"C"]
        assert remote.opens == opens == 1
        assert details(remote.events)[-1] == "= unchanged"


async def test_only_the_changed_file_travels(remote: ShellRemote, source: Path, site: Path) -> None:
    write(source, {"big.bin": os.urandom(300_000)})
    await push_code(remote, source)
    before = (site / "big.bin").stat()
    write(source, {"a.py": "print(2)\n"})
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (site / "big.bin").stat().st_ino == before.st_ino
    assert details(remote.events)[-1].startswith("1 files, ")
    assert [event.total for event in remote.events if isinstance(event, BytesMoved)][-1] == 9


async def test_a_renamed_file_does_not_travel_again(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    remote.events.clear()
    (source / "src/b.py").rename(source / "moved.py")
    shutil.copy2(source / "moved.py", source / "again.py")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert not [event for event in remote.events if isinstance(event, BytesMoved)]


async def test_a_mode_change_alone_is_seen(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    inode = (site / "a.py").stat().st_ino
    (source / "a.py").chmod(0o755)
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (site / "a.py").stat().st_ino == inode
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_files_become_folders_and_go_back(remote: ShellRemote, source: Path, site: Path) -> None:
    first = tree(source)
    await push_code(remote, source)
    for name in ("a.py", "link"):
        (source / name).unlink()
        write(source, {f"{name}/x/y": "inside"})
    await push_code(remote, source)
    assert tree(site) == tree(source)
    for name in ("a.py", "link"):
        shutil.rmtree(source / name)
    write(source, {"a.py": "print(1)\n"})
    (source / "link").symlink_to("src/b.py")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert tree(source).keys() == first.keys()


async def test_what_was_removed_here_goes_there_and_only_that(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {".venv/bin/python": "venv", "src/deep/results.csv": "1,2", "out/log": "log"})
    (source / "src/b.py").unlink()
    shutil.rmtree(source / "src" / "deep")
    (source / "empty").rmdir()
    await push_code(remote, source)
    found = tree(site)
    assert {"src/b.py", "src/deep/c.txt", "empty"}.isdisjoint(found)
    assert found["src/deep/results.csv"][2] == b"1,2"
    assert found[".venv/bin/python"][2] == b"venv"
    assert found["out/log"][2] == b"log"
    (site / "src/deep/results.csv").unlink()
    shutil.rmtree(site / ".venv")
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_e11_odd_names_arrive_exactly(remote: ShellRemote, tmp_path: Path, site: Path) -> None:
    root = tmp_path / "proj"
    names = ["-rf", "new\nline", "\udcff\udcfe.bin", "x" * 255, "sp ace", "$(id)", "é", "*", "/".join(["d"] * 200)]
    write(root, {name: name.encode("utf-8", "surrogateescape") for name in names})
    write(root, {"zero": ""})
    await push_code(remote, root)
    assert tree(site) == tree(root)


async def test_e13_links_out_are_kept_and_never_written_through(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    write(outside, {"victim": "keep"})
    (source / "out").symlink_to(outside)
    await push_code(remote, source)
    assert (site / "out").readlink() == outside
    assert "out is a link that leads out" in "\n".join(notes(remote.events))
    (source / "out").unlink()
    write(source, {"out/victim": "new"})
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (outside / "victim").read_text() == "keep"


async def test_a_link_planted_on_the_node_is_not_written_through(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    write(outside, {"b.py": "keep"})
    await push_code(remote, source)
    shutil.rmtree(site / "src")
    (site / "src").symlink_to(outside)
    write(source, {"src/b.py": "new"})
    with pytest.raises(WorkspaceConflict, match="src"):
        await push_code(remote, source)
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert tree(site) == tree(source)
    assert (outside / "b.py").read_text() == "keep"
    assert "src" in "\n".join(notes(remote.events))


async def test_e18_umask_does_not_change_modes(tmp_path: Path, source: Path, site: Path) -> None:
    (source / "a.py").chmod(0o666)
    shell = ("sh", "-c", 'umask 077; exec sh -c "$0"')
    async with ShellRemote(tmp_path / "home", shell=shell) as remote:
        await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_many_nodes_share_one_scan(tmp_path: Path, source: Path) -> None:
    write(source, {f"many/{number}": os.urandom(2000) for number in range(600)})
    async with AsyncExitStack() as stack:
        remotes = [await stack.enter_async_context(ShellRemote(tmp_path / f"n{n}", name=f"n{n}")) for n in range(4)]
        bundle = await stack.enter_async_context(pack_workspace(source))
        sites = await asyncio.gather(*(push_code(remote, bundle) for remote in remotes))
        assert {pushed.digest for pushed in sites} == {bundle.digest}
        for remote in remotes:
            assert tree(remote.home / "proj") == tree(source)


async def test_e14_a_large_file_goes_in_pieces(remote: ShellRemote, source: Path, site: Path) -> None:
    with (source / "large").open("wb") as file:
        file.write(os.urandom(3_000_000))
        file.truncate(20_000_000)
    await push_code(remote, source)
    assert tree(site) == tree(source)


# --- what was edited on the node


async def test_an_edit_on_the_node_is_refused_by_name(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {"a.py": "edited!!\n"})
    write(source, {"src/b.py": "new"})
    before = tree(site)
    with pytest.raises(WorkspaceConflict, match=r"edited on the node since our last push: a\.py") as caught:
        await push_code(remote, source)
    assert "overwrite" in caught.value.hint
    assert tree(site) == before
    assert any(isinstance(event, StageFailed) for event in remote.events)


async def test_an_edit_on_the_node_is_overwritten_and_named(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {"a.py": "edited!!\n"})
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert tree(site) == tree(source)
    assert "edited on the node and overwritten: a.py" in "\n".join(notes(remote.events))


async def test_e10_an_edit_of_the_same_size_and_time_is_seen(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    was = (site / "a.py").stat()
    (site / "a.py").write_text("print(9)\n")
    os.utime(site / "a.py", ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(WorkspaceConflict, match=r"a\.py"):
        await push_code(remote, source)


async def test_a_touched_file_is_no_edit(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    os.utime(site / "a.py")
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_the_same_edit_on_both_sides_is_no_conflict(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    for root in (source, site):
        write(root, {"a.py": "both\n", "new.py": "both\n"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_file_removed_on_the_node_is_brought_back(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    (site / "a.py").unlink()
    shutil.rmtree(site / "src")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert "removed on the node and brought back: a.py" in "\n".join(notes(remote.events))


async def test_a_file_in_the_way_is_a_conflict(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {"new.py": "made on the node", "results/x": "1"})
    write(source, {"new.py": "ours"})
    with pytest.raises(WorkspaceConflict, match=r"new\.py"):
        await push_code(remote, source)
    (source / "new.py").unlink()
    write(source, {"results": "a file where a folder of theirs stands"})
    for conflict in ("refuse", "overwrite"):
        with pytest.raises(WorkspaceConflict, match="results is a folder on the node"):
            await push_code(remote, Workspace(source, on_conflict=conflict))
    assert (site / "results/x").read_text() == "1"


async def test_a_file_and_a_link_become_empty_folders(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    for name in ("a.py", "link"):
        (source / name).unlink()
        (source / name).mkdir()
    await push_code(remote, source)
    assert tree(site) == tree(source)
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_an_empty_folder_that_was_filled_on_the_node_is_no_place_for_a_file(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    (source / "empty").rmdir()
    write(source, {"empty": "a file now", "a.py": "new"})
    for inside in ("empty/results", "empty/theirs/more"):
        write(site, {inside: "1"})
        before = tree(site)
        with pytest.raises(WorkspaceConflict, match="empty is a folder on the node"):
            await push_code(remote, Workspace(source, on_conflict="overwrite"))
        assert tree(site) == before
        (site / inside).unlink()
    with pytest.raises(WorkspaceConflict, match="empty is a folder on the node"):
        await push_code(remote, source)  # their folder in it is not ours to remove either
    (site / "empty/theirs").rmdir()
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_folder_whose_files_were_removed_on_the_node_becomes_a_file(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    (site / "src/deep/c.txt").unlink()
    shutil.rmtree(source / "src")
    write(source, {"src": "a file now"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_pipe_in_the_way_is_not_taken_for_ours(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    (site / "src/b.py").unlink()
    os.mkfifo(site / "src/b.py")
    shutil.rmtree(source / "src")
    write(source, {"src": "a file now", "a.py": "new"})
    with pytest.raises(WorkspaceConflict, match="src is a folder on the node"):
        await push_code(remote, source)
    assert (site / "a.py").read_text() == "print(1)\n"


# --- whose site it is


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


# --- a bad world


async def test_e1_a_full_disk_leaves_the_old_tree(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "size=400k") as disk:
        workspace = Workspace(source, remote_path=f"{disk}/site")
        await push_code(remote, workspace)
        before = tree(disk / "site")
        write(source, {"a.py": "new", "big": os.urandom(600_000)})
        with pytest.raises(NodeFull, match=r"0\.6 MB needed, 0\.\d MB free") as caught:
            await push_code(remote, workspace)
        assert caught.value.free_bytes > 0
        assert caught.value.needed_bytes > 600_000
        assert tree(disk / "site") == before
        (source / "big").unlink()
        await push_code(remote, workspace)
        assert tree(disk / "site") == tree(source)


async def test_e2_no_inodes_leaves_the_old_tree(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "nr_inodes=40") as disk:
        workspace = Workspace(source, remote_path=f"{disk}/site")
        await push_code(remote, workspace)
        before = tree(disk / "site")
        write(source, {f"d{number}/x": "x" for number in range(20)})
        with pytest.raises(NodeFull, match="inodes free"):
            await push_code(remote, workspace)
        assert tree(disk / "site") == before


async def test_e3_read_only_is_said_with_the_path(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(TransferFailed, match="Read-only") as caught:
            await push_code(remote, Workspace(source, remote_path=f"{disk}/site"))
        assert "read-only" in caught.value.hint


async def test_e3_a_file_where_the_site_should_be(remote: ShellRemote, source: Path) -> None:
    write(remote.home, {"file": "x"})
    for place in ("~/file", "~/file/below"):
        with pytest.raises(TransferFailed) as caught:
            await push_code(remote, Workspace(source, remote_path=place))
        assert "a part of the path is a file" in caught.value.hint


async def test_e9_a_file_that_changes_after_the_scan_is_found(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    before = tree(site)
    write(source, {"a.py": "second"})
    async with pack_workspace(source) as bundle:
        write(source, {"a.py": "third!"})
        with pytest.raises(TransferFailed, match=r"here: a\.py changed"):
            await push_code(remote, bundle)
    assert tree(site) == before
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_cancelled_push_leaves_the_old_tree_and_goes_on_later(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    before = tree(site)
    write(source, {f"big{number}": os.urandom(400_000) for number in range(8)})
    with anyio.CancelScope() as scope:
        emit = remote.emit
        remote.emit = lambda event: (emit(event), scope.cancel() if isinstance(event, BytesMoved) else None)[0]
        await push_code(remote, source)
    assert scope.cancelled_caught
    remote.emit = emit
    assert tree(site) == before
    await push_code(remote, source)
    assert tree(site) == tree(source)


# --- killed on the node


def change_everything(root: Path) -> None:
    """Changes of each sort: content, mode, folder for file, file for folder, new and removed names."""
    write(root, {"src/b.py": "changed", "new/x/y": "y", "twin": "y"})
    (root / "run.sh").chmod(0o644)
    (root / "a.py").unlink()
    write(root, {"a.py/inside": "folder"})
    shutil.rmtree(root / "src" / "deep")
    write(root, {"src/deep": "file"})
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")


POINTS = [
    *(("renameat", count) for count in range(1, 9)),
    *(("unlinkat", count) for count in range(1, 8)),
    *(("utimensat", count) for count in (1, 3)),
    *(("fsync", 1), ("symlinkat", 1), ("fchmodat", 1), ("mkdirat", 2)),
]


@pytest.mark.parametrize("call, count", POINTS)
async def test_e4_e5_killed_at_any_point_it_is_the_old_tree_or_the_new_one(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path, call: str, count: int
) -> None:
    await push_code(remote, source)
    old = tree(source)
    change_everything(source)
    async with ShellRemote(tmp_path / "home", shell=killing(call, count)) as doomed:
        with pytest.raises(ConnectionLost):
            await push_code(doomed, source)
    if (site / ".asyncdeploy" / "journal").exists():
        async with ShellRemote(tmp_path / "home") as next_one:
            await finish_push(next_one, "~/proj")
        assert tree(site) == tree(source)
    else:
        assert tree(site) in (old, tree(source))
    assert not (site / ".asyncdeploy" / "journal").exists()
    await push_code(remote, source)
    assert tree(site) == tree(source)
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"
    assert list((site / ".asyncdeploy" / "staging").iterdir()) == []


async def test_e4_what_a_cut_push_staged_does_not_travel_again(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    write(source, {f"big{number}": os.urandom(100_000) for number in range(6)})
    async with ShellRemote(tmp_path / "home", shell=killing("fsync", 1)) as doomed:
        with pytest.raises(ConnectionLost):
            await push_code(doomed, source)
    assert tree(site) == {}
    staged = [path for path in (site / ".asyncdeploy" / "staging").iterdir() if path.lstat().st_size == 100_000]
    assert len(staged) == 6
    staged[0].write_bytes(b"torn")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert [event.total for event in remote.events if isinstance(event, BytesMoved)][-1] == 100_000


async def test_a_journal_that_lost_its_contents_brings_them_again(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    await push_code(remote, source)
    write(source, {"a.py": "second", "src/b.py": "second b", "x": "third"})
    async with ShellRemote(tmp_path / "home", shell=killing("renameat", 3)) as doomed:
        with pytest.raises(ConnectionLost):
            await push_code(doomed, source)
    assert (site / ".asyncdeploy" / "journal").exists()
    for staged in (site / ".asyncdeploy" / "staging").iterdir():
        staged.write_bytes(b"")  # as a node that lost power may leave them
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_torn_state_is_no_state(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    state = site / ".asyncdeploy" / "state"
    state.write_bytes(state.read_bytes()[:-100])
    write(source, {"new": "new"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_once_all_is_verified_our_death_does_not_stop_it(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    need("strace")
    await push_code(remote, source)
    change_everything(source)
    # The swap is slowed, and we are gone before its first rename is done.
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat")
    slow = (*slow, "-e", "inject=renameat:delay_enter=50000", "sh", "-c")
    async with ShellRemote(tmp_path / "home", shell=slow) as other, asyncio.TaskGroup() as group:
        task = group.create_task(push_code(other, source))
        await eventually((site / ".asyncdeploy" / "journal.new").exists, "the swap has begun")
        task.cancel()
    await eventually(lambda: tree(site) == tree(source), "the receiver finishes alone")
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


# --- through a real sshd


async def test_real_sshd_cold_changed_unchanged_and_edited(
    sshd_nodes: tuple[SshdNode, ...], source: Path, tmp_path: Path
) -> None:
    write(source, {f"many/{number}": os.urandom(3000) for number in range(400)})
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:

        async def push() -> None:
            async with pack_workspace(source) as bundle:
                await asyncio.gather(*(push_code(pool.at(sshd.node), bundle) for sshd in sshd_nodes))

        await push()
        write(source, {"a.py": "changed"})
        (source / "many/1").unlink()
        await push()
        await push()
        for sshd in sshd_nodes:
            write(sshd.home / "proj", {".venv/x": "1"})
            assert tree(sshd.home / "proj") == {
                **tree(source),
                ".venv": ("dir", 0, b""),
                ".venv/x": ("file", 0o644, b"1"),
            }
        write(sshd_nodes[0].home / "proj", {"a.py": "edited"})
        with pytest.raises(WorkspaceConflict, match=r"a\.py"):
            await push_code(pool.at(sshd_nodes[0].node), source)


# --- words of a node


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "same",
        "same|rel",
        "done|/x",
        "done|/x|-1|0|0|0",
        "what|/x",
        "full|/x|1",
        "conflict|/x|odd",
        "same|/x" + "|y" * 99,
    ],
)
def test_an_answer_that_is_none_is_a_protocol_error(payload: str) -> None:
    with pytest.raises(ProtocolError, match="not what its program sends"):
        read_answer("n", payload.replace("|", "\0").encode())


def test_h4_a_nodes_words_do_not_drive_the_terminal() -> None:
    with pytest.raises(WorkspaceConflict) as caught:
        read_answer("n", b"conflict\0/x\0edited\0" + b"1\0\x1b[2J" + b"y" * 5000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1500


# --- any tree


# Few names, so that those of two trees meet: a file where a folder was is what goes wrong.
NAME = st.one_of(
    st.sampled_from(["a", "b"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=5).filter(
        lambda name: name not in (".", "..", ".git", ".asyncdeploy", ".gitignore", ".asyncdeployignore")
    ),
)
LEAF = st.one_of(st.binary(max_size=40), st.sampled_from(["link", "out", 0o755]))
TREES = st.recursive(
    st.dictionaries(NAME, LEAF, max_size=4),
    lambda below: st.dictionaries(NAME, LEAF | below, max_size=4),
    max_leaves=12,
)


def build(root: Path, spec: dict[str, object]) -> None:
    root.mkdir(exist_ok=True)
    for name, what in spec.items():
        path = root / name
        if isinstance(what, dict):
            build(path, what)
        elif isinstance(what, str):
            path.symlink_to({"link": "nowhere", "out": ".."}[what])
        elif isinstance(what, bytes):
            path.write_bytes(what)
        else:
            path.write_text("x")
            path.chmod(0o755)


@given(st.lists(TREES, min_size=2, max_size=3))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_follows_any_other(tmp_path_factory: pytest.TempPathFactory, specs: list[dict[str, object]]) -> None:
    base = tmp_path_factory.mktemp("trees")

    async def push_all() -> None:
        async with ShellRemote(base / "home") as remote:
            for spec in specs:
                shutil.rmtree(base / "proj", ignore_errors=True)
                build(base / "proj", spec)
                try:
                    await push_code(remote, base / "proj")
                except DeployError as error:
                    raise AssertionError(str(error)) from error
                assert tree(base / "home" / "proj") == tree(base / "proj")

    asyncio.run(push_all())


async def test_a_block_is_compressed_unless_the_line_is_faster_than_that(tmp_path: Path) -> None:
    source = tmp_path / "proj"
    write(source, {"a.txt": "words, words\n" * 20_000})
    for rate, letter in ((0.0, b"z"), (125e6, b"z"), (5e9, b"r")):
        async with pack_workspace(source) as bundle:
            (block,) = bundle.blocks([0], {})
            assert (await bundle.packed(block, rate))[:1] == letter
            assert (await bundle.packed(block))[:1] == letter, "it is packed once for all nodes"
