"""Results from nodes without python3: by dash, bash and busybox ash."""

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.workspace import Collected
from tests.support.remotes.plain_remote import SHELLS, PlainRemote
from tests.support.remotes.shell_remote import ShellChannel
from tests.support.trees import tree, write


@pytest.fixture(params=SHELLS)
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PlainRemote]:
    async with PlainRemote(tmp_path / "home", request.param) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "home" / "out"
    write(root, {"a.log": "a" * 3000, "ckpt/model.bin": os.urandom(2_500_000), "ckpt/deep/none": ""})
    (root / "ckpt/latest").symlink_to("model.bin")
    (root / "empty").mkdir()
    os.utime(root / "ckpt/deep/none", (1, 1))
    return root


async def test_a_folder_comes_home_as_it_is(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    done = await sync_results(remote, "~/out", tmp_path / "here")
    assert done.complete, done.skipped
    assert (done.files, done.received, done.bytes_received) == (4, 4, 2_503_000)
    assert tree(tmp_path / "here") == tree(source)
    again = await sync_results(remote, str(source), tmp_path / "here")
    assert (again.files, again.received, again.bytes_received) == (4, 0, 0)


async def test_a_site_s_own_state_is_no_result(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    write(source, {".asyncdeploy/env": "", "ckpt/.asyncdeploy/x": ""})
    done = await sync_results(remote, "~/out", tmp_path / "here")
    assert done.complete, done.skipped
    assert done.files == 4


ODD = [b"-rf", b"a\nb", b"back\\slash", b"\xff\xfe", b"it's", b"$(x) `y`", b"n" * 255, b"deep/" * 30 + b"end"]


async def test_odd_names_come_home_exactly(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    for name in ODD:
        path = source / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name * 2)
    (source / "to-odd").symlink_to("a\nb\n")
    done = await sync_results(remote, "~/out", tmp_path / "here")
    assert done.complete, done.skipped
    assert tree(tmp_path / "here") == tree(source)


async def test_only_what_a_log_grew_by_travels(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    write(source, {"a.log": "a" * 100_000})
    await sync_results(remote, "~/out", tmp_path / "here")
    with (source / "a.log").open("ab") as log:
        log.write(b"more")
    (source / "ckpt/model.bin").write_bytes(b"x" * 2_500_000)
    done = await sync_results(remote, "~/out", tmp_path / "here")
    assert done.bytes_received == 2_500_004
    assert tree(tmp_path / "here") == tree(source)


async def test_d1_what_is_no_file_is_left_behind_by_name(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(source / "sock"))
    (source / "out").symlink_to("/etc/passwd")
    (source / "up").symlink_to("../../x")
    done = await sync_results(remote, "~/out", tmp_path / "here", allow_partial=True)
    assert {name for name, _ in done.skipped} == {"pipe", "sock", "out", "up"}
    assert done.files == 4


async def test_budgets_hold(remote: PlainRemote, source: Path, tmp_path: Path) -> None:

    async def collect(place: str, limits: CollectLimits) -> Collected:
        return await sync_results(remote, "~/out", tmp_path / place, limits=limits, allow_partial=True)

    few = await collect("few", CollectLimits(max_files=3))
    assert not few.complete
    assert "over the budget of 3 files" in few.skipped[-1][1]
    flat = await collect("flat", CollectLimits(max_depth=1))
    assert [name for name, _ in flat.skipped] == ["ckpt", "empty"]
    small = await sync_results(
        remote, "~/out", tmp_path / "small", limits=CollectLimits(max_bytes=5000), allow_partial=True
    )
    assert [name for name, _ in small.skipped] == ["ckpt/model.bin"]
    assert small.bytes_received == 3000


async def test_one_file_and_none(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    done = await sync_results(remote, "~/out/a.log", tmp_path / "here")
    assert done.files == 1
    assert (tmp_path / "here/a.log").read_bytes() == b"a" * 3000
    with pytest.raises(TransferFailed, match="No such file"):
        await sync_results(remote, "~/nothing", tmp_path / "here")


async def test_a_file_that_is_not_what_was_listed_is_tried_by_itself(
    remote: PlainRemote, source: Path, tmp_path: Path
) -> None:
    for number in range(5):
        (source / f"{number}.txt").write_bytes(bytes([number]) * 1000)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/cat"
    # A log grows as it is fetched: everything behind it is shifted.
    fake.write_text(f'#!/bin/sh\n[ "$1" = /dev/zero ] || printf grown >>\'{source}/0.txt\'\nexec /bin/cat "$@"\n')
    fake.chmod(0o755)
    remote.env["PATH"] = f"{tmp_path}/bin:{remote.env['PATH']}"
    done = await sync_results(remote, "~/out", tmp_path / "here")
    assert done.complete, done.skipped
    assert done.received == 9
    (source / "0.txt").write_bytes(bytes(1000))  # as it was when it was listed
    assert tree(tmp_path / "here") == tree(source)


async def test_d15_a_node_that_lies_about_a_hash_is_not_believed(
    remote: PlainRemote, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/sha256sum"
    fake.write_text("#!/bin/sh\n/bin/cat >/dev/null\nfor f in ${*:--}; do echo " + "0" * 64 + " $f; done\n")
    fake.chmod(0o755)
    remote.env["PATH"] = f"{tmp_path}/bin:{remote.env['PATH']}"
    done = await sync_results(remote, "~/out/a.log", tmp_path / "here", allow_partial=True)
    assert done.files == 0
    assert done.skipped == (("a.log", "it changed while it was read"),)
    assert list((tmp_path / "here").iterdir()) == []


class Counting(PlainRemote):
    """A node without python3 of which the requests are counted by their names."""

    def __init__(self, home: Path, shell: str) -> None:
        super().__init__(home, shell)
        self.requests: Counter[bytes] = Counter()

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        send = channel.send

        def counted(data: bytes) -> None:
            _, _, request = data.partition(b"\n")
            self.requests[request.partition(b" ")[0]] += 1
            send(data)

        channel.send = counted  # type: ignore[method-assign]
        return channel


@pytest.mark.parametrize("shell", SHELLS)
async def test_p20_unchanged_files_are_asked_for_together(tmp_path: Path, shell: str) -> None:
    """What was just written is looked at again, as it may change within a tick: one by one that took 20 ms a file."""
    source, home = tmp_path / "home" / "out", tmp_path / "here"
    write(source, {f"d{number % 7}/{number}": f"{number}" for number in range(600)} | {"big": os.urandom(3_000_000)})
    async with Counting(tmp_path / "home", shell) as remote:
        await sync_results(remote, "~/out", home)
        for path in source.rglob("*"):
            os.utime(path)
        remote.requests.clear()
        again = await sync_results(remote, "~/out", home)
        assert (again.files, again.received, again.bytes_received) == (601, 0, 0)
        assert remote.requests[b"fetch_one"] == 1  # the big one
        assert sum(remote.requests.values()) < 40
        with (source / "d0/0").open("a") as file:
            file.write(" grew")
        (source / "d1/1").write_text("2")  # another content of the same size
        remote.requests.clear()
        changed = await sync_results(remote, "~/out", home)
        assert (changed.received, changed.bytes_received) == (2, 7)
        assert remote.requests[b"fetch_one"] <= 1
    assert tree(home) == tree(source)
