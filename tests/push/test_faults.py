"""Push while clients die, disks fail, deployers race and files change: the old tree or the new one, then it goes on."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.transport import Channel
from asyncdeploy.values.errors import (
    ConnectionLost,
    DeployError,
    NodeFull,
    NoShell,
    ProgramFailed,
    ToolMissing,
    TransferFailed,
    WorkspaceBusy,
    WorkspaceConflict,
)
from asyncdeploy.values.events import BytesMoved, Event
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.killing import failing, slowed
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import change_files, small_disk, tree, write
from tests.support.waiting import eventually

SEED = 20261124


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "proj"
    write(root, {"a.py": "first", "src/b.py": "b" * 5000, "src/deep/c.txt": "c"})
    return root


# --- the node's disk


FAULTS = [
    *(("write", "ENOSPC", count) for count in (4, 6, 8, 10, 12)),  # the ones before greet us, on a pipe
    *(("openat", "EDQUOT", count) for count in (70, 80, 90, 100)),
    *(("fchmodat", "EIO", count) for count in (1,)),
    *(("unlinkat", "EIO", count) for count in (1, 2, 3)),
    *(("renameat", "EIO", count) for count in (1, 2, 4, 6)),
    *(("renameat", "ENOSPC", count) for count in (1, 3)),
    *(("mkdirat", "ENOSPC", count) for count in (1, 2)),
    *(("utimensat", "EIO", 1), ("fsync", "EIO", 1), ("fsync", "ENOSPC", 1)),
]


async def test_e1_a_disk_that_fails_at_any_call_leaves_a_tree_that_the_next_push_completes(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    told: list[type[DeployError]] = []
    await push_code(remote, source)
    for call, error, count in FAULTS:
        before = tree(site)
        change_files(source, dice)
        async with ShellRemote(tmp_path / "home", shell=failing(call, error, count)) as doomed:
            try:
                await push_code(doomed, source)
            except DeployError as caught:
                told.append(type(caught))
            else:
                assert tree(site) == tree(source), (call, error, count)  # the fault met nothing that matters
        if not (site / ".asyncdeploy/journal").exists():
            assert tree(site) in (before, tree(source)), (call, error, count)
        await push_code(remote, source)
        assert tree(site) == tree(source), (call, error, count)
        assert list((site / ".asyncdeploy/staging").iterdir()) == []
    assert {NodeFull, TransferFailed} <= set(told) <= {NodeFull, TransferFailed, ConnectionLost, NoShell, ToolMissing}
    assert len(told) > len(FAULTS) // 2


async def test_e1_a_disk_filled_by_somebody_else_meanwhile_leaves_the_old_tree(
    remote: ShellRemote, source: Path, tmp_path: Path
) -> None:
    async with small_disk(tmp_path / "disk", "size=6m") as disk:
        workspace = Workspace(source, remote_path=f"{disk}/site")
        await push_code(remote, workspace)
        before = tree(disk / "site")
        write(source, {f"big{number}": os.urandom(500_000) for number in range(8)})

        def fill(event: Event) -> None:
            if isinstance(event, BytesMoved) and not (disk / "theirs").exists():
                (disk / "theirs").write_bytes(b"x" * 4_000_000)

        remote.emit = fill  # type: ignore[method-assign]
        with pytest.raises(NodeFull, match=r"4\.0 MB needed, [0-9.]+ \w+ free") as caught:
            await push_code(remote, workspace)
        assert caught.value.path == f"{disk}/site"
        assert tree(disk / "site") == before
        (disk / "theirs").unlink()
        remote.emit = lambda _event: None  # type: ignore[method-assign]
        await push_code(remote, workspace)
        assert tree(disk / "site") == tree(source)


async def test_e3_a_user_who_may_not_write_there_is_told(user_node: Callable[..., SshdNode], source: Path) -> None:
    sshd = user_node("dash")
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        with pytest.raises(TransferFailed, match="Permission denied") as caught:
            await push_code(remote, Workspace(source, remote_path="/root/proj"))
        assert "may not write there" in caught.value.hint
        await push_code(remote, source)
        write(source, {"src/b.py": "new", "a.py": "new"})
        (sshd.home / "proj/src").chmod(0o500)
        os.chown(sshd.home / "proj/src", 0, 0)
        with pytest.raises((TransferFailed, WorkspaceConflict)):
            await push_code(remote, source)
        (sshd.home / "proj/src").chmod(0o755)
        os.chown(sshd.home / "proj/src", sshd.account.uid, sshd.account.uid)
        await push_code(remote, source)
        assert tree(sshd.home / "proj") == tree(source)


# --- other deployers


@pytest.mark.parametrize("conflict", ["refuse", "overwrite"])
async def test_e6_eight_deployers_with_eight_trees_leave_one_of_them(tmp_path: Path, site: Path, conflict: str) -> None:
    dice = random.Random(SEED)
    sources = [tmp_path / f"of-{number}" for number in range(8)]
    for number, root in enumerate(sources):
        write(root, {"who": str(number), **{f"f{at}": dice.randbytes(3000) for at in range(50)}})
    async with AsyncExitStack() as stack:
        remotes = [await stack.enter_async_context(ShellRemote(tmp_path / "home", name=f"n{n}")) for n in range(8)]
        pushes = (
            push_code(remote, Workspace(root, remote_path="~/proj", on_conflict=conflict))
            for remote, root in zip(remotes, sources, strict=True)
        )
        ends = await asyncio.gather(*pushes, return_exceptions=True)
    winners = [number for number, end in enumerate(ends) if not isinstance(end, BaseException)]
    last = int((site / "who").read_text())
    assert tree(site) == tree(sources[last])
    assert last in winners
    if conflict == "overwrite":
        assert len(winners) == 8
    else:
        assert winners == [last]
        for number, end in enumerate(ends):
            assert number == last or isinstance(end, WorkspaceConflict)
            assert number == last or str(sources[last]) in str(end)


async def test_e6_a_folder_that_another_deployer_is_making_is_not_taken_for_a_strangers(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    async with ShellRemote(tmp_path / "home", shell=slowed("getdents64", 0.4)) as slow:
        first = asyncio.create_task(push_code(slow, source))
        await eventually(site.exists, "the slow one is about to look into the folder")
        await push_code(remote, source)
        await first
    assert tree(site) == tree(source)


async def test_e7_a_deployer_that_hangs_is_named_and_its_end_frees_the_site(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    await push_code(remote, source)
    before = tree(site)
    write(source, {f"big{number}": os.urandom(700_000) for number in range(6)})
    async with ShellRemote(tmp_path / "home", name="hung") as hung:

        def freeze(event: Event) -> None:
            if isinstance(event, BytesMoved) and not frozen:
                os.kill(hung.channels[0].process.pid, signal.SIGSTOP)
                frozen.append(event)

        frozen: list[Event] = []
        hung.emit = freeze  # type: ignore[method-assign]
        first = asyncio.create_task(push_code(hung, source))
        await eventually(lambda: frozen, "the first one hangs")
        holder = (site / ".asyncdeploy/lock").read_text()
        assert holder
        with pytest.raises(WorkspaceBusy) as caught:
            await push_code(remote, source, wait_s=0.2)
        assert holder in caught.value.message
        assert tree(site) == before
        os.kill(hung.channels[0].process.pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            await first
        await push_code(remote, source)
        assert tree(site) == tree(source)


# --- files that will not hold still


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def swap_for_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swap_for_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("how", [truncate, grow, Path.unlink, swap_for_a_folder, swap_for_a_pipe])
async def test_e9_a_file_that_changes_while_it_is_sent_is_named(
    remote: ShellRemote, source: Path, site: Path, how: Callable[[Path], None]
) -> None:
    await push_code(remote, source)
    before = tree(site)
    write(source, {"a.py": "new", "moving.log": os.urandom(100_000)})
    async with pack_workspace(source) as bundle:
        how(source / "moving.log")
        with pytest.raises(TransferFailed, match=r"moving\.log"):
            await push_code(remote, bundle)
    assert tree(site) == before
    moved = source / "moving.log"
    moved.rmdir() if moved.is_dir() else moved.unlink(missing_ok=True)
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_e10_times_of_the_far_past_and_future_arrive_and_stay_unchanged(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    os.utime(source / "a.py", ns=(0, 0))
    os.utime(source / "src/b.py", ns=(1 << 61, 1 << 61))
    await push_code(remote, source)
    assert (site / "src/b.py").stat().st_mtime_ns == (source / "src/b.py").stat().st_mtime_ns
    assert (site / "a.py").stat().st_mtime_ns == 0
    inodes = {path: path.stat().st_ino for path in site.rglob("*.py")}
    await push_code(remote, source)
    was = (source / "a.py").stat()
    (source / "a.py").write_text("fir5t")  # of the same size
    os.utime(source / "a.py", ns=(was.st_atime_ns, was.st_mtime_ns))  # and time
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (site / "src/b.py").stat().st_ino == inodes[site / "src/b.py"]


async def test_e13_links_in_a_circle_are_only_links(remote: ShellRemote, source: Path, site: Path) -> None:
    for name, target in (("one", "two"), ("two", "one"), ("self", "self"), ("src/up", ".."), ("src/deep/top", "../..")):
        (source / name).symlink_to(target)
    await push_code(remote, source)
    assert tree(site) == tree(source)


# --- a line that lies


class Flipped(ShellRemote):
    """Flips one bit in the payload of the first frame of a kind."""

    def __init__(self, home: Path, kind: bytes, at: float) -> None:
        super().__init__(home)
        self.kind, self.place, self.flips = kind, at, 0

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        channel = await super().open(line, kind=kind)
        send = channel.send

        def flip(data: bytes) -> None:
            if data[:1] == self.kind and len(data) > 5 and not self.flips:
                self.flips += 1
                at = 5 + int(self.place * (len(data) - 6))
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            send(data)

        channel.send = flip  # type: ignore[method-assign]
        return channel


@pytest.mark.parametrize("kind", [b"M", b"D"])
@pytest.mark.parametrize("random_bytes", [True, False], ids=["raw", "packed"])
async def test_e19_a_flipped_bit_is_found_wherever_it_is(
    remote: ShellRemote,
    source: Path,
    site: Path,
    tmp_path: Path,
    kind: bytes,
    random_bytes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asyncdeploy.push.push.AHEAD", 0)  # the list in frames of its own, as that of a larger tree
    await push_code(remote, source)
    before = tree(site)
    write(source, {"a.py": "new", "big": os.urandom(50_000) if random_bytes else "\n".join(map(str, range(9_000)))})
    for at in (0.0, 0.01, 0.3, 0.7, 1.0):
        async with Flipped(tmp_path / "home", kind, at) as lying:
            with pytest.raises((TransferFailed, ProgramFailed)):
                await push_code(lying, source)
            assert lying.flips == 1
        assert tree(site) == before
    await push_code(remote, source)
    assert tree(site) == tree(source)
