"""Collecting where something goes wrong: odd files, bombs, a full disk, death midway; D1-D13 by the real sender."""

import asyncio
import os
import random
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.values.errors import ProtocolError, TransferFailed
from asyncdeploy.values.events import BytesMoved, StageFailed
from tests.support.beds.sshd_node import SshdNode
from tests.support.places import ROOT
from tests.support.remotes.meddler import Meddler
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote
from tests.support.results import parts, tree, write
from tests.support.tools import need, need_root
from tests.support.waiting import eventually

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
    done = await sync_results(remote, "~/out", home, allow_partial=True)
    assert tree(home) == {b"a": b"a"}
    assert {name for name, _ in done.skipped} == odd
    assert {reason for _, reason in done.skipped} == {"no regular file, folder or link"}
    alone = await sync_results(remote, "~/out/fifo", home, allow_partial=True)
    assert (alone.files, [name for name, _ in alone.skipped]) == (0, ["fifo"])


async def test_d3_links_that_lead_out_are_reported(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"d/f": "x"})
    (out / "absolute").symlink_to("/etc/passwd")
    (out / "escaping").symlink_to("d/../../secret")
    (out / "d" / "inside").symlink_to("../d/f")
    done = await sync_results(remote, "~/out", home, allow_partial=True)
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
        done = await sync_results(pool.at(sshd.node), "~/out", home, allow_partial=True)
        with pytest.raises(TransferFailed, match="Permission denied"):
            await sync_results(pool.at(sshd.node), "~/out/folder/f", home)
    assert set(done.skipped) == {("closed", "Permission denied"), ("folder", "Permission denied")}
    assert tree(home) == {b"folder": None, b"open": b"open"}


async def test_d9_what_vanished_midway_is_reported(tmp_path: Path, out: Path, home: Path) -> None:
    write(out, {"a": "a", "gone": "x", "now a fifo": "x", "now a link": "x", "now a folder": "x", "z": "z"})

    def meddle() -> None:
        for name in ("gone", "now a fifo", "now a link", "now a folder"):
            (out / name).unlink()
        os.mkfifo(out / "now a fifo")
        (out / "now a link").symlink_to("/etc/passwd")
        (out / "now a folder").mkdir()

    async with Meddler(tmp_path / "node", meddle) as remote:
        done = await sync_results(remote, "~/out", home, allow_partial=True)
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
        done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=1000), allow_partial=True)
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
        done = await sync_results(remote, "~/out", home, allow_partial=True)
        assert done.skipped == (("/".join(["d"] * 64), "deeper than 64 folders"),)
        assert (home / "a").read_text() == "a"
    finally:
        subprocess.run(["rm", "-rf", str(out)], check=True)  # Python's rmtree recurses


async def test_d10_more_files_than_the_budget(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {f"{number:03}": "x" for number in range(50)})
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_files=20), allow_partial=True)
    assert (done.files, len(done.skipped)) == (20, 1)
    assert "over the budget of 20 files; this and all after it" in done.skipped[0][1]


async def test_d10_more_bytes_than_the_budget(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "a" * 600, "b": "b" * 600, "c": "c" * 300})
    with (out / "sparse").open("wb") as file:
        file.truncate(1 << 41)
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=1000), allow_partial=True)
    assert set(done.skipped) == {(name, "over the budget of 1000 bytes") for name in ("b", "sparse")}
    assert set(tree(home)) == {b"a", b"c"}
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=1000), allow_partial=True)
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
from asyncdeploy.collect.collect import sync_results
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote
node, home, at = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
seen = 0

def on_event(name, args):
    global seen
    if name == "os.rename" or name == "open" and "asyncdeploy-part" in str(args[0]):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

async def slowly(channel, limit=65536, read=ShellChannel.read):
    await asyncio.sleep(0.001)
    return await read(channel, min(limit, 65536))

async def main():
    if at < 0:  # so that whoever watches has the time to kill us
        ShellChannel.read = slowly
    async with ShellRemote(node) as remote:
        await sync_results(remote, "~/warm", home / "warm")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if at > 0:
            sys.addaudithook(on_event)
        done = await sync_results(remote, "~/out", home)
        print(done.bytes_received, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


async def _collect_elsewhere(node: Path, home: Path, die_at: int = 0) -> tuple[int, bytes]:
    """Collect in a process of its own, which kills itself as it begins or names its ``die_at``-th file."""
    (node / "warm").mkdir(exist_ok=True)
    words = [sys.executable, "-c", COLLECTS, str(node), str(home), str(die_at)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
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


@pytest.mark.parametrize("here", [0, 20_000_000], ids=["nothing here", "its beginning here"])
async def test_d13_killed_within_a_large_file(remote: ShellRemote, out: Path, home: Path, here: int) -> None:
    """What stood here before stands, whole; the next collect brings the rest and leaves nothing half-done."""
    content = random.Random(13).randbytes(120_000_000)
    write(out, {"log": content[:here]} if here else {})
    await sync_results(remote, "~/out", home)
    write(out, {"log": content})
    os.utime(out / "log")
    (remote.home / "warm").mkdir()
    words = [sys.executable, "-c", COLLECTS, str(remote.home), str(home), "-1"]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    await eventually(lambda: any(part.stat().st_size > here + 10_000_000 for part in parts(home)))
    process.kill()
    await process.communicate()
    assert process.returncode == -9
    assert len(parts(home)) == 1
    assert (home / "log").exists() == bool(here)
    assert not here or (home / "log").read_bytes() == content[:here]
    done = await sync_results(remote, "~/out", home)
    assert done.bytes_received == len(content) - here
    assert (home / "log").read_bytes() == content
    assert not parts(home)


class Flipped(ShellRemote):
    """A node whose line flips one bit, so many bytes after it has begun to speak."""

    def __init__(self, home: Path, at: int) -> None:
        super().__init__(home)
        self.at, self.came = at, 0

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        read = channel.read

        async def spoiled(limit: int = 262144) -> bytes:
            data = await read(limit)
            at, self.came = self.at - self.came, self.came + len(data)
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if 0 <= at < len(data) else data

        channel.read = spoiled  # type: ignore[method-assign]
        return channel


@pytest.mark.parametrize("at", [100_000, 1_500_000, 2_900_000])
async def test_d15_a_flipped_bit_is_found(tmp_path: Path, remote: ShellRemote, out: Path, home: Path, at: int) -> None:
    write(out, {"old": "old", "log": "short"})
    await sync_results(remote, "~/out", home)
    before = tree(home)
    content = random.Random(15).randbytes(3_000_000)
    (out / "log").write_bytes(content)
    async with Flipped(tmp_path / "node", at) as lying:
        with pytest.raises(ProtocolError, match=r"with the hash .*, where it says"):
            await sync_results(lying, "~/out", home)
    assert tree(home) == before
    await sync_results(remote, "~/out", home)
    assert tree(home) == {b"old": b"old", b"log": content}


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
