"""Collect by the real sender: what travels, what stands here afterwards, what is left behind and why."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from asyncdeploy.envs import SystemEnv
from asyncdeploy.errors import TransferFailed
from asyncdeploy.events import BytesMoved, StageFailed, StageFinished
from asyncdeploy.fleet import collect_all, deploy_all
from asyncdeploy.hostkeys import HostKeys
from asyncdeploy.local import LocalCluster
from asyncdeploy.pool import Pool
from asyncdeploy.sync import sync_results
from asyncdeploy.sync_listing import CollectLimits
from tests.support.shell_remote import ShellChannel, ShellRemote
from tests.support.sshd_node import SshdNode
from tests.support.tools import need, need_root
from tests.support.waiting import eventually

LONG_AGO_NS = 1_234_567_890_123_456_789


def write(root: Path, files: dict[str, str | bytes]) -> None:
    """Write files that were last changed long ago, as results mostly are."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def tree(root: Path) -> dict[bytes, object]:
    """Every name below a folder, with its content, its link target, or None for a folder."""
    found: dict[bytes, object] = {}
    for path in root.rglob("*"):
        name = os.fsencode(path.relative_to(root))
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def parts(root: Path) -> list[Path]:
    return list(root.rglob(".asyncdeploy-part-*"))


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "node") as found:
        yield found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder on the node that is collected."""
    folder = tmp_path / "node" / "out"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where it comes to."""
    return tmp_path / "results"


# --- what travels


async def test_a_tree_comes_as_it_is(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a.json": "{}", "deep/er/b": b"\0\xff" * 70_000, "empty file": b"", "run.sh": "#!/bin/sh\n"})
    (out / "run.sh").chmod(0o755)
    (out / "empty").mkdir()
    (out / "last").symlink_to("deep/er/b")
    (out / "deep" / "up").symlink_to("../a.json")
    (out / "dangling").symlink_to("nowhere")
    for name in (b"new\nline", b"latin-\xe9", b"x" * 255, b"-rf", b"a b'\"$HOME"):
        Path(os.fsdecode(os.fsencode(out) + b"/" + name)).write_bytes(name)
    done = await sync_results(remote, "~/out", home)
    assert done.complete
    assert tree(home) == tree(out)
    assert (done.files, done.received) == (12, 12)
    assert done.bytes_received == sum(len(content) for content in tree(out).values() if isinstance(content, bytes))
    assert (home / "a.json").stat().st_mtime_ns == LONG_AGO_NS
    assert os.access(home / "run.sh", os.X_OK)
    assert not os.access(home / "a.json", os.X_OK)
    moved = [event for event in remote.events if isinstance(event, BytesMoved)]
    assert moved[-1].done == moved[-1].total == done.bytes_received
    assert isinstance(remote.events[-1], StageFinished)


async def test_a_second_collect_moves_nothing(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "a" * 1000, "b/c": "c"})
    (out / "l").symlink_to("a")
    (out / "fresh").write_text("written just now")
    await sync_results(remote, str(out), home)
    before = {path: path.stat().st_ino for path in home.rglob("*")}
    again = await sync_results(remote, str(out), home)
    assert (again.files, again.received, again.bytes_received) == (4, 0, 0)
    assert {path: path.stat().st_ino for path in home.rglob("*")} == before
    assert remote.opens == 1


async def test_of_a_log_that_grew_only_the_tail_comes(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"log": b"line\n" * 200_000})
    await sync_results(remote, "~/out", home)
    with (out / "log").open("ab") as file:
        file.write(b"more\n" * 3)
    done = await sync_results(remote, "~/out", home)
    assert (done.received, done.bytes_received) == (1, 15)
    assert (home / "log").read_bytes() == (out / "log").read_bytes()


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(b"new\n", id="truncated"),
        pytest.param(b"other\n" * 100, id="rotated and longer"),
        pytest.param(b"LINE\n" * 10, id="same size"),
        pytest.param(b"", id="emptied"),
    ],
)
async def test_a_file_that_changed_comes_whole(remote: ShellRemote, out: Path, home: Path, now: bytes) -> None:
    write(out, {"log": b"line\n" * 10})
    await sync_results(remote, "~/out", home)
    (out / "log").write_bytes(now)
    done = await sync_results(remote, "~/out", home)
    assert (done.received, done.bytes_received) == (1, len(now))
    assert (home / "log").read_bytes() == now


async def test_a_file_that_was_only_touched_does_not_come(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"model": b"m" * 3_000_000})
    await sync_results(remote, "~/out", home)
    os.utime(out / "model", ns=(5, 5))
    inode = (home / "model").stat().st_ino
    done = await sync_results(remote, "~/out", home)
    assert (done.files, done.received, done.bytes_received) == (1, 0, 0)
    assert ((home / "model").stat().st_mtime_ns, (home / "model").stat().st_ino) == (5, inode)


async def test_a_file_changed_within_its_clock_s_tick_is_found(remote: ShellRemote, out: Path, home: Path) -> None:
    """Same size and same mtime: a file that was fresh when it came is looked at once more."""
    (out / "state").write_text("step 1")
    stamp = (out / "state").stat().st_mtime_ns
    await sync_results(remote, "~/out", home)
    (out / "state").write_text("step 2")
    os.utime(out / "state", ns=(stamp, stamp))
    await sync_results(remote, "~/out", home)
    assert (home / "state").read_text() == "step 2"


async def test_same_size_and_an_old_mtime_are_taken_as_the_same(remote: ShellRemote, out: Path, home: Path) -> None:
    """What the docstring says; rsync does the same."""
    write(out, {"state": "step 1"})
    await sync_results(remote, "~/out", home)
    write(out, {"state": "step 2"})
    await sync_results(remote, "~/out", home)
    assert (home / "state").read_text() == "step 1"


async def test_what_was_changed_here_becomes_the_node_s_again(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "node", "b": "node"})
    await sync_results(remote, "~/out", home)
    (home / "a").write_text("mine, and longer")
    (home / "b").write_text("mine")
    (home / "kept").write_text("mine")
    await sync_results(remote, "~/out", home)
    assert tree(home) == {b"a": b"node", b"b": b"node", b"kept": b"mine"}


async def test_a_local_link_is_replaced_and_not_written_through(
    remote: ShellRemote, out: Path, home: Path, tmp_path: Path
) -> None:
    write(out, {"a": "node"})
    (tmp_path / "precious").write_text("mine")
    home.mkdir()
    (home / "a").symlink_to(tmp_path / "precious")
    await sync_results(remote, "~/out", home)
    assert not (home / "a").is_symlink()
    assert (home / "a").read_text() == "node"
    assert (tmp_path / "precious").read_text() == "mine"


async def test_file_and_folder_do_not_replace_each_other(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"was a file": "x", "was a folder/f": "x", "rest": "x"})
    await sync_results(remote, "~/out", home)
    (out / "was a file").unlink()
    shutil.rmtree(out / "was a folder")
    write(out, {"was a file/f": "new", "was a folder": "new", "rest": "newer"})
    done = await sync_results(remote, "~/out", home)
    assert {name for name, _ in done.skipped} == {"was a file", "was a file/f", "was a folder"}
    assert "another kind" in dict(done.skipped)["was a folder"]
    assert (home / "was a file").read_text() == "x"
    assert (home / "was a folder" / "f").read_text() == "x"
    assert (home / "rest").read_text() == "newer"


# --- sources


async def test_a_source_may_be_a_file(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"metrics.json": "{}", "other": "x"})
    done = await sync_results(remote, "~/out/metrics.json", home)
    assert tree(home) == {b"metrics.json": b"{}"}
    assert done.files == 1


async def test_a_source_may_be_a_link_to_a_folder(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"run-7/a": "a"})
    (out / "latest").symlink_to("run-7")
    await sync_results(remote, "~/out/latest", home)
    assert tree(home) == {b"a": b"a"}


@pytest.mark.parametrize("source", ["~/nothing", "~/out/*.json", "~/out/a/b"])
async def test_a_source_that_is_not_there_is_said_so(remote: ShellRemote, out: Path, home: Path, source: str) -> None:
    write(out, {"a": "a", "x.json": "{}"})
    with pytest.raises(TransferFailed) as caught:
        await sync_results(remote, source, home)
    assert source in caught.value.message
    assert "No such file or directory" in caught.value.message or "Not a directory" in caught.value.message
    assert caught.value.path == source
    assert isinstance(remote.events[-1], StageFailed)
    assert tree(home) == {}
    await sync_results(remote, "~/out", home)
    assert remote.opens == 1  # the worker is not spent by a no


async def test_sources_and_limits_are_checked_before_anything_is_opened(remote: ShellRemote, home: Path) -> None:
    for source in ("out", "../out", "~/../x", "/a\nb", ""):
        with pytest.raises(ValueError, match="sync_results source"):
            await sync_results(remote, source, home)
    for bad in ({"max_bytes": 0}, {"max_files": -1}, {"max_depth": 256}, {"max_files": True}):
        with pytest.raises(ValueError, match="CollectLimits max_"):
            CollectLimits(**bad)
    assert remote.opens == 0
    assert not home.exists()


# --- what is left behind


async def test_d1_d2_odd_entries_are_reported(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "a"})
    os.mkfifo(out / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(out / "socket"))
    odd = {"fifo", "socket"}
    if os.geteuid() == 0:
        os.mknod(out / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        odd.add("null")
    done = await sync_results(remote, "~/out", home)
    assert tree(home) == {b"a": b"a"}
    assert {name for name, _ in done.skipped} == odd
    assert {reason for _, reason in done.skipped} == {"no regular file, folder or link"}
    alone = await sync_results(remote, "~/out/fifo", home)
    assert (alone.files, [name for name, _ in alone.skipped]) == (0, ["fifo"])


async def test_d3_links_that_lead_out_are_reported(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"d/f": "x"})
    (out / "absolute").symlink_to("/etc/passwd")
    (out / "escaping").symlink_to("d/../../secret")
    (out / "d" / "inside").symlink_to("../d/f")
    done = await sync_results(remote, "~/out", home)
    assert {name for name, _ in done.skipped} == {"absolute", "escaping"}
    assert tree(home) == {b"d": None, b"d/f": b"x", b"d/inside": "-> ../d/f"}


async def test_d8_modes_and_owners(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"suid": "x", "private": "x", "sealed/f": "x", "tool": "x"})
    (out / "suid").chmod(0o6755)
    (out / "private").chmod(0o600)
    (out / "tool").chmod(0o700)
    if os.geteuid() == 0:
        os.chown(out / "private", 12345, 12345)
    (out / "sealed").chmod(0o1700)
    await sync_results(remote, "~/out", home)
    mode = {name: (home / name).stat().st_mode & 0o7777 for name in ("suid", "private", "sealed", "tool")}
    assert mode["suid"] & 0o7000 == mode["sealed"] & 0o7000 == 0
    assert (mode["private"], mode["sealed"], mode["tool"]) == (0o600, 0o700, 0o700)
    assert (home / "private").stat().st_uid == os.geteuid()


async def test_d9_permission_denied_costs_the_rest_nothing(user_node: Callable[..., SshdNode], home: Path) -> None:
    """By real OpenSSH, as a user who is not root."""
    sshd = user_node("bash")
    write(sshd.home, {"out/closed": "x", "out/folder/f": "x", "out/open": "open"})
    for path in (sshd.home / "out").rglob("*"):
        os.chown(path, sshd.account.uid, sshd.account.uid)
    (sshd.home / "out" / "closed").chmod(0)
    (sshd.home / "out" / "folder").chmod(0)
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        done = await sync_results(pool.at(sshd.node), "~/out", home)
        with pytest.raises(TransferFailed, match="Permission denied"):
            await sync_results(pool.at(sshd.node), "~/out/folder/f", home)
    assert set(done.skipped) == {("closed", "Permission denied"), ("folder", "Permission denied")}
    assert tree(home) == {b"folder": None, b"open": b"open"}


class Meddler(ShellRemote):
    """A node on which something happens after its files were listed and before they are sent."""

    def __init__(self, home: Path, meddle: Callable[[], object]) -> None:
        super().__init__(home)
        self.meddle = meddle

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        if not channel.reused:
            send = channel.send

            def watched(data: bytes) -> None:
                if data[:1] == b"Y":
                    self.meddle()
                send(data)

            channel.send = watched  # type: ignore[method-assign]
        return channel


async def test_d9_what_vanished_midway_is_reported(tmp_path: Path, out: Path, home: Path) -> None:
    write(out, {"a": "a", "gone": "x", "now a fifo": "x", "now a link": "x", "now a folder": "x", "z": "z"})

    def meddle() -> None:
        for name in ("gone", "now a fifo", "now a link", "now a folder"):
            (out / name).unlink()
        os.mkfifo(out / "now a fifo")
        (out / "now a link").symlink_to("/etc/passwd")
        (out / "now a folder").mkdir()

    async with Meddler(tmp_path / "node", meddle) as remote:
        done = await sync_results(remote, "~/out", home)
    assert tree(home) == {b"a": b"a", b"z": b"z"}
    assert [name for name, _ in done.skipped] == ["gone", "now a fifo", "now a folder", "now a link"]
    assert dict(done.skipped)["gone"] == "it vanished"


async def test_d9_what_changed_midway_comes_as_it_is_now(tmp_path: Path, out: Path, home: Path) -> None:
    write(out, {"grown": "x", "cut": "long", "replaced": "old"})

    def meddle() -> None:
        with (out / "grown").open("a") as file:
            file.write("y" * 100_000)
        (out / "cut").write_text("")
        (out / "new").write_text("a whole new state")
        (out / "new").rename(out / "replaced")

    async with Meddler(tmp_path / "node", meddle) as remote:
        done = await sync_results(remote, "~/out", home)
        assert tree(home) == {b"grown": b"x" + b"y" * 100_000, b"cut": b"", b"replaced": b"a whole new state"}
        assert done.complete
        remote.meddle = lambda: None
        assert (await sync_results(remote, "~/out", home)).bytes_received == 0


async def test_d9_what_grew_over_the_budget_is_reported(tmp_path: Path, out: Path, home: Path) -> None:
    """An honest node is not taken for a liar."""
    write(out, {"a": "a", "grown": "x", "z": "z"})
    async with Meddler(tmp_path / "node", lambda: (out / "grown").write_text("x" * 2000)) as remote:
        done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=1000))
    assert [name for name, _ in done.skipped] == ["grown"]
    assert tree(home) == {b"a": b"a", b"z": b"z"}


# --- bombs


async def test_d10_a_tree_10_000_folders_deep(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "a"})
    fd = os.open(out, os.O_RDONLY)
    try:
        for _ in range(10_000):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
    finally:
        os.close(fd)
    try:
        done = await sync_results(remote, "~/out", home)
        assert done.skipped == (("/".join(["d"] * 64), "deeper than 64 folders"),)
        assert (home / "a").read_text() == "a"
    finally:
        subprocess.run(["rm", "-rf", str(out)], check=True)  # Python's rmtree recurses


async def test_d10_more_files_than_the_budget(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {f"{number:03}": "x" for number in range(50)})
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_files=20))
    assert (done.files, len(done.skipped)) == (20, 1)
    assert "over the budget of 20 files; this and all after it" in done.skipped[0][1]


async def test_d10_more_bytes_than_the_budget(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "a" * 600, "b": "b" * 600, "c": "c" * 300})
    with (out / "sparse").open("wb") as file:
        file.truncate(1 << 41)
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=1000))
    assert set(done.skipped) == {(name, "over the budget of 1000 bytes") for name in ("b", "sparse")}
    assert set(tree(home)) == {b"a", b"c"}
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=1000))
    assert set(tree(home)) == {b"a", b"b", b"c"}  # the budget is of what travels


# --- this machine


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A disk of 1 MiB with 40 inodes."""
    need_root()
    need("mount", "umount")
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "tmpfs", str(home)], check=True)
    yield home
    subprocess.run(["umount", str(home)], check=True)


async def test_d12_a_full_local_disk(remote: ShellRemote, out: Path, small_disk: Path) -> None:
    write(out, {"a": "a", "big": b"b" * 3_000_000, "c": "c"})
    for _ in range(2):
        with pytest.raises(TransferFailed, match="No space left on device") as caught:
            await sync_results(remote, "~/out", small_disk)
        assert caught.value.hint.endswith("GB are free there")
        assert tree(small_disk) == {b"a": b"a"}
    (out / "big").unlink()
    assert (await sync_results(remote, "~/out", small_disk)).complete


async def test_d12_no_inodes_left(remote: ShellRemote, out: Path, small_disk: Path) -> None:
    write(out, {f"d{number}/f": "x" for number in range(60)})
    with pytest.raises(TransferFailed, match="No space left on device"):
        await sync_results(remote, "~/out", small_disk / "deeper")
    assert not parts(small_disk)
    with pytest.raises(TransferFailed, match="No space left on device") as caught:
        await sync_results(remote, "~/out", small_disk / "even" / "deeper")
    assert caught.value.path == str(small_disk / "even" / "deeper")


async def test_d12_the_target_is_a_file(remote: ShellRemote, out: Path, home: Path) -> None:
    home.write_text("mine")
    with pytest.raises(TransferFailed, match="File exists"):
        await sync_results(remote, "~/out", home)
    assert home.read_text() == "mine"


COLLECTS = """
import asyncio, os, pathlib, resource, signal, sys
from asyncdeploy.sync import sync_results
from tests.support.shell_remote import ShellRemote
node, home, at = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
seen = 0

def on_event(name, args):
    global seen
    if name == "os.rename" or name == "open" and "asyncdeploy-part" in str(args[0]):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with ShellRemote(node) as remote:
        await sync_results(remote, "~/warm", home / "warm")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if at:
            sys.addaudithook(on_event)
        done = await sync_results(remote, "~/out", home)
        print(done.bytes_received, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


async def _collect_elsewhere(node: Path, home: Path, die_at: int = 0) -> tuple[int, bytes]:
    """Collect in a process of its own, which kills itself as it begins or names its ``die_at``-th file."""
    (node / "warm").mkdir(exist_ok=True)
    words = [sys.executable, "-c", COLLECTS, str(node), str(home), str(die_at)]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    text, _ = await process.communicate()
    return await process.wait(), text


async def test_d13_killed_midway(remote: ShellRemote, out: Path, home: Path) -> None:
    files: dict[str, str | bytes] = {f"d{number}/f": b"%d" % number * 300_000 for number in range(4)}
    write(out, files)
    whole = {name.encode(): content for name, content in files.items()}
    half_done = 0
    for die_at in (1, 2, 3, 4, 5):  # 1 is the file by which the target is tried out; then a beginning and a name each
        code, _ = await _collect_elsewhere(remote.home, home, die_at)
        assert code == -9
        there = {name: content for name, content in tree(home).items() if content and b"part" not in name}
        assert there.items() <= whole.items()
        half_done += len(parts(home))
    assert half_done
    done = await sync_results(remote, "~/out", home)
    assert done.complete
    assert not parts(home)
    assert {name: content for name, content in tree(home).items() if content is not None} == whole


async def test_memory_is_bounded_while_a_large_file_comes(remote: ShellRemote, out: Path, home: Path) -> None:
    with (out / "large").open("wb") as file:
        file.truncate(200 << 20)
    code, text = await _collect_elsewhere(remote.home, home)
    received, more_kib = map(int, text.split())
    assert (code, received) == (0, 200 << 20)
    assert more_kib < 50 << 10
    assert (home / "large").stat().st_size == 200 << 20


async def test_d13_cancelled_midway(tmp_path: Path, out: Path, home: Path) -> None:
    write(out, {"a": "a", "b": b"b" * 50_000_000})
    async with ShellRemote(tmp_path / "node") as remote:
        task = asyncio.create_task(sync_results(remote, "~/out", home))
        await eventually(lambda: any(isinstance(event, BytesMoved) for event in remote.events))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(remote.events[-1], StageFailed)
    assert tree(home) == {b"a": b"a"}


async def test_two_collects_into_one_folder_leave_each_other_s_files_alone(
    remote: ShellRemote, out: Path, home: Path, tmp_path: Path
) -> None:
    """The second one sweeps while the first one's file is on its way."""
    write(out, {"big": b"b" * 50_000_000})
    write(tmp_path / "node" / "other", {"small": "s"})
    first = asyncio.create_task(sync_results(remote, "~/out", home))
    await eventually(lambda: any(isinstance(event, BytesMoved) for event in remote.events))
    assert not first.done()
    await sync_results(remote, "~/other", home)
    assert (await first).complete
    assert set(tree(home)) == {b"big", b"small"}


# --- many nodes


async def test_d14_two_nodes_one_path_and_a_third_that_fails(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    async with LocalCluster(3) as cluster, cluster.pool() as pool:
        deployments = (await deploy_all(cluster.nodes, tmp_path / "project", SystemEnv(), pool=pool)).unwrap()
        for node in cluster.nodes[:2]:
            write(cluster.home(node) / "project", {"out/rank.txt": str(node.name)})
        report = await collect_all(deployments, "out", tmp_path / "home", pool=pool)
    assert [outcome.state for outcome in report] == ["ok", "ok", "failed"]
    assert isinstance(report.failures[0].error, TransferFailed)
    assert tree(tmp_path / "home") == {
        b"0-local-0": None,
        b"0-local-0/rank.txt": b"local-0",
        b"1-local-1": None,
        b"1-local-1/rank.txt": b"local-1",
        b"2-local-2": None,
    }


async def test_over_openssh(sshd_nodes: Sequence[SshdNode], home: Path) -> None:
    sshd = sshd_nodes[0]
    write(sshd.home, {"out/log": b"line\n" * 500_000, "out/a": "a"})
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        first = await sync_results(remote, "~/out", home)
        with (sshd.home / "out" / "log").open("ab") as file:
            file.write(b"end\n")
        second = await sync_results(remote, str(sshd.home / "out"), home)
    assert (first.files, first.bytes_received) == (2, 2_500_001)
    assert (second.files, second.received, second.bytes_received) == (2, 1, 4)
    assert tree(home) == tree(sshd.home / "out")
