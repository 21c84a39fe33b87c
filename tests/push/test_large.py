"""Large contents: sent by the piece, resumed, mended, sparse; hashed once."""

import hashlib
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.node_side.push import pieces as on_node
from asyncdeploy.push.bundle.hash_cache import RACY_NS, Stamp, load_hashes, save_hashes
from asyncdeploy.push.bundle.pieces import (
    LARGE,
    PIECE,
    ZERO,
    hash_pieces,
    large_id,
    pack_runs,
    piece_count,
    runs_of,
    sent_ranges,
)
from asyncdeploy.push.bundle.scan import list_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.values.errors import NodeFull, TransferFailed
from asyncdeploy.values.events import BytesMoved, Event, StageFinished
from asyncdeploy.values.workspace import Workspace
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need_root

MIB = 1 << 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "proj"
    root.mkdir()
    (root / "small.py").write_text("pass\n")
    (root / "big").write_bytes(random.Random(7).randbytes(20 * MIB + 777))
    return root


def moved(remote: ShellRemote) -> int:
    """Bytes of content that the last push sent; the push ended well."""
    assert isinstance(remote.events[-1], StageFinished)
    totals = [event.done for event in remote.events if isinstance(event, BytesMoved)]
    remote.events.clear()
    return totals[-1] if totals else 0


def change(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def same(source: Path, site: Path, *names: str) -> bool:
    return all((source / name).read_bytes() == (site / name).read_bytes() for name in names)


# --- pieces as data


@given(st.lists(st.sampled_from("abz"), max_size=30), st.lists(st.sampled_from("abcz"), max_size=30), st.data())
@settings(max_examples=100, deadline=None)
def test_runs_say_where_every_piece_comes_from(new: list[str], old: list[str], data: st.DataObject) -> None:
    digest = {name: hashlib.sha256(name.encode()).digest() for name in "abc"} | {"z": ZERO}
    digests, base = b"".join(map(digest.__getitem__, new)), b"".join(digest[name][:8] for name in old)
    runs = runs_of(digests, base)
    fates = [run.fate for run in runs for _ in range(run.count)]
    for number, (name, fate) in enumerate(zip(new, fates, strict=True)):
        equal = number < len(old) and old[number] == name
        assert fate == ("keep" if equal else "zero" if name == "z" else "send")
    assert len(pack_runs(runs)) == 5 * len(runs)
    if new:
        size = (len(new) - 1) * PIECE + data.draw(st.integers(1, PIECE))
        sent = [at // PIECE for start, length in sent_ranges(runs, size) for at in range(start, start + length, PIECE)]
        assert sent == [number for number, fate in enumerate(fates) if fate == "send"]


@pytest.mark.parametrize("size", [LARGE, LARGE + 1, LARGE + PIECE, 40 * MIB + 5])
def test_both_sides_name_a_content_alike(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"begin")
        file.seek(size // 2)
        file.write(b"middle" * PIECE)
        file.truncate(size)
    data = path.read_bytes()
    plain = b"".join(hashlib.sha256(data[at : at + PIECE]).digest() for at in range(0, size, PIECE))
    hashed = on_node.ContentHash(size)
    for at in range(0, size, 100_000):
        hashed.update(data[at : at + 100_000])
    with path.open("rb") as file, ThreadPoolExecutor(2) as executor:
        digests = hash_pieces(file.fileno(), size, executor, threading.Event())
    assert digests == plain == hashed.pieces()
    assert large_id(digests).encode() == hashed.name()
    assert piece_count(size) * 32 == len(digests)


# --- what travels


async def test_a_changed_megabyte_travels_alone(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    assert moved(remote) == 20 * MIB + 777 + 5
    change(source / "big", 10 * MIB + 100, os.urandom(MIB))
    await push_code(remote, source)
    assert moved(remote) <= MIB + PIECE
    assert same(source, site, "big", "small.py")


async def test_an_appended_end_and_a_cut_end_travel_alone(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    moved(remote)
    with (source / "big").open("ab") as file:
        file.write(b"more" * 1000)
    await push_code(remote, source)
    assert moved(remote) <= 2 * PIECE
    assert same(source, site, "big")
    os.truncate(source / "big", 12 * MIB + 5)
    await push_code(remote, source)
    assert moved(remote) <= PIECE
    assert same(source, site, "big")
    os.truncate(source / "big", 5)
    await push_code(remote, source)
    assert same(source, site, "big")


async def test_small_files_around_a_changed_large_one(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    for number in range(20):
        (source / f"a{number}").write_bytes(os.urandom(30_000))
        (source / f"z{number}").write_bytes(os.urandom(30_000))
    change(source / "big", 0, b"x")
    change(source / "big", 7 * MIB, b"x")
    (source / "other").write_bytes(os.urandom(5 * MIB))
    (source / "twin").write_bytes((source / "other").read_bytes())
    await push_code(remote, source)
    assert same(source, site, *[path.name for path in source.iterdir()])


async def test_a_resumed_push_sends_the_rest(remote: ShellRemote, source: Path, site: Path, tmp_path: Path) -> None:
    class Impatient(ShellRemote):
        def emit(self, event: Event) -> None:
            if isinstance(event, BytesMoved) and event.done > 12 * MIB:
                scope.cancel()

    async with Impatient(tmp_path / "home") as cut:
        with anyio.CancelScope() as scope:
            await push_code(cut, source)
        assert scope.cancelled_caught
    assert not (site / "big").exists()
    await push_code(remote, source)
    # What was on its way when the line was cut is lost: 4 MiB of buffers at most.
    assert moved(remote) <= 14 * MIB
    assert same(source, site, "big")
    assert list((site / ".asyncdeploy" / "staging").iterdir()) == []


async def test_behind_what_a_cut_push_left_the_old_file_is_the_base(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    moved(remote)
    change(source / "big", MIB, os.urandom(PIECE))
    change(source / "big", 18 * MIB, os.urandom(PIECE))
    part = site / ".asyncdeploy" / "staging" / f"{list_workspace_sha(source)}.part"
    part.write_bytes((source / "big").read_bytes()[: 9 * MIB + 5])
    await push_code(remote, source)
    assert moved(remote) <= 4 * PIECE
    assert same(source, site, "big")


async def test_what_pieces_a_file_has_is_kept_beside_it(remote: ShellRemote, source: Path, site: Path) -> None:
    (source / "hole").touch()
    os.truncate(source / "hole", 100 * MIB)
    kept = site / ".asyncdeploy" / "pieces"
    await push_code(remote, source)
    assert len(list(kept.iterdir())) == 2
    before = list_workspace_sha(source)
    change(source / "big", 5 * MIB, b"changed")
    (source / "hole").unlink()
    await push_code(remote, source)
    assert [path.name for path in kept.iterdir()] == [list_workspace_sha(source)] != [before]
    # What is kept there is not believed but proven: its name is its hash.
    (kept / list_workspace_sha(source)).write_bytes(os.urandom(32 * 321))
    moved(remote)
    change(source / "big", 6 * MIB, b"changed again")
    await push_code(remote, source)
    assert moved(remote) == PIECE
    assert same(source, site, "big")


async def test_a_damaged_part_is_mended(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    moved(remote)
    data = (source / "big").read_bytes()
    (site / "big").unlink()
    part = site / ".asyncdeploy" / "staging" / f"{list_workspace_sha(source)}.part"
    part.write_bytes(data[:MIB] + b"damage" + data[MIB + 6 : 15 * MIB + 3] + b"tail that is wrong" * MIB)
    await push_code(remote, source)
    assert moved(remote) <= 7 * MIB
    assert same(source, site, "big")


def list_workspace_sha(source: Path) -> str:
    manifest = list_workspace(Workspace(source), threading.Event()).manifest
    return next(entry.sha256 for entry in manifest.entries if entry.path == "big")


async def test_an_edited_large_file_is_the_base_all_the_same(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    moved(remote)
    change(site / "big", 3 * MIB, b"edited on the node")
    change(source / "big", 4 * MIB, b"edited here")
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert moved(remote) == 2 * PIECE
    assert same(source, site, "big")


async def test_e14_holes_stay_holes(remote: ShellRemote, source: Path, site: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.seek(1 << 36)
        file.write(b"end")
    await push_code(remote, source)
    assert moved(remote) < 21 * MIB
    found = (site / "sparse").stat()
    assert found.st_size == (1 << 36) + 3
    assert found.st_blocks * 512 <= 4 * PIECE
    change(source / "sparse", 0, b"begin")
    change(source / "big", MIB, bytes(4 * MIB))  # zeros where the old one has data
    await push_code(remote, source)
    assert moved(remote) <= 2 * PIECE
    assert same(source, site, "big")
    with (site / "sparse").open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(1 << 36)
        assert file.read() == b"end"


async def test_e1_no_room_for_a_large_one(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    need_root()
    os.system(f"mkdir -p {tmp_path}/home/small && mount -t tmpfs -o size=16m none {tmp_path}/home/small")
    try:
        with pytest.raises(NodeFull) as caught:
            await push_code(remote, Workspace(source, remote_path="~/small/proj"))
        assert caught.value.free_bytes < 17 * MIB
        await remote.close()
    finally:
        os.system(f"umount {tmp_path}/home/small")


async def test_e9_a_large_file_that_changes_meanwhile(remote: ShellRemote, source: Path, site: Path) -> None:
    def emit(event: Event) -> None:
        if isinstance(event, BytesMoved):
            change(source / "big", 19 * MIB, os.urandom(10))

    remote.emit = emit
    with pytest.raises(TransferFailed, match="big changed"):
        await push_code(remote, source)
    assert not (site / "big").exists()


# --- hashed once


def old(path: Path) -> None:
    """Make a file older than the clock's coarsest tick; its ctime cannot be set, so the machine is waited for."""
    then = time.time_ns() - 2 * RACY_NS
    os.utime(path, ns=(then, then))
    while Stamp.of(path.stat()).is_racy(time.time_ns()):
        time.sleep(0.05)


def test_an_unchanged_large_file_is_read_once(source: Path, cache: Path) -> None:
    old(source / "big")
    first = list_workspace(Workspace(source), threading.Event())
    (remembered,) = (cache / "asyncdeploy" / "hashes").iterdir()
    known = load_hashes(str(source))
    assert known["big"] == (first.stamps["big"], first.pieces["big"])
    # What is remembered is believed: a lie in it shows that the file was not read.
    save_hashes(str(source), {"big": (known["big"][0], bytes(len(known["big"][1])))})
    lied = list_workspace(Workspace(source), threading.Event())
    assert lied.pieces["big"] == bytes(len(known["big"][1]))
    change(source / "big", 0, b"x")
    third = list_workspace(Workspace(source), threading.Event())
    assert third.pieces["big"][:32] == hashlib.sha256((source / "big").read_bytes()[:PIECE]).digest()
    remembered.write_bytes(remembered.read_bytes()[:-3])
    assert load_hashes(str(source)) == {}


def test_e10_a_racily_clean_file_is_not_remembered(source: Path) -> None:
    (source / "big").touch()
    list_workspace(Workspace(source), threading.Event())
    assert "big" not in load_hashes(str(source))


def test_a_cache_that_cannot_be_written_is_none(source: Path, cache: Path) -> None:
    old(source / "big")
    cache.write_text("a file where the folder would be")
    listing = list_workspace(Workspace(source), threading.Event())
    assert listing.pieces["big"]
