"""Large and many: holes stay holes, and many files starve nobody."""

import asyncio
import hashlib
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.results import LONG_AGO_NS, parts
from tests.support.waiting import Lag

MIB = 1 << 20
GIB = 1 << 30


def used(path: Path) -> int:
    """Bytes that a file takes on its disk."""
    return path.stat().st_blocks * 512


def sparse(path: Path, size: int, *data_at: int) -> None:
    """Write a file that has a MiB of data at these places, and holes elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for place in data_at:
            file.seek(place)
            file.write(random.Random(place).randbytes(MIB))
        file.truncate(size)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize(
    "places",
    [(), (0,), (199 * MIB,), (3 * MIB, 100 * MIB), (100 * MIB + 12_345,)],
    ids=["nothing but a hole", "a hole at the end", "a hole before", "holes between", "at no block's beginning"],
)
async def test_p18_holes_stay_holes(remote: ShellRemote, out: Path, home: Path, places: tuple[int, ...]) -> None:
    sparse(out / "sparse", 200 * MIB, *places)
    done = await sync_results(remote, "~/out", home)
    assert done.files == 1
    assert digest(home / "sparse") == digest(out / "sparse")
    assert used(home / "sparse") <= used(out / "sparse") + MIB
    assert (await sync_results(remote, "~/out", home)).bytes_received == 0
    sparse(out / "sparse", 201 * MIB, *places, 150 * MIB)  # changed behind its beginning
    await sync_results(remote, "~/out", home)
    assert digest(home / "sparse") == digest(out / "sparse")
    assert used(home / "sparse") <= used(out / "sparse") + MIB


async def test_p18_what_grew_by_a_hole_brings_its_tail_alone(remote: ShellRemote, out: Path, home: Path) -> None:
    sparse(out / "log", 10 * MIB, 2 * MIB)
    await sync_results(remote, "~/out", home)
    with (out / "log").open("r+b") as file:
        file.truncate(90 * MIB)
    done = await sync_results(remote, "~/out", home)
    assert done.bytes_received == 80 * MIB
    assert digest(home / "log") == digest(out / "log")
    assert used(home / "log") <= 2 * MIB


async def test_p18_holes_do_not_travel(remote: ShellRemote, out: Path, home: Path) -> None:
    """They count as content, in budgets too: what a node sends is bounded whatever it is."""
    sparse(out / "sparse", 2 * GIB, GIB)
    came = 0
    channel = ShellRemote.open

    async def counted(line: str, *, kind: str | None = None) -> object:
        found = await channel(remote, line, kind=kind)
        read = found.read

        async def counting(limit: int = 262144) -> bytes:
            nonlocal came
            data = await read(limit)
            came += len(data)
            return data

        found.read = counting  # type: ignore[method-assign]
        return found

    remote.open = counted  # type: ignore[method-assign,assignment]
    done = await sync_results(remote, "~/out", home)
    assert MIB <= came < 4 * MIB
    assert done.bytes_received == 2 * GIB
    assert used(home / "sparse") <= 4 * MIB
    few = CollectLimits(max_bytes=GIB)
    over = await sync_results(remote, "~/out", home / "few", limits=few, allow_partial=True)
    assert over.skipped == (("sparse", f"over the budget of {GIB} bytes"),)


async def test_p18_nodes_without_python_too(tmp_path: Path, home: Path) -> None:
    async with PlainRemote(tmp_path / "node") as remote:
        sparse(tmp_path / "node" / "out" / "sparse", 60 * MIB, 20 * MIB)
        await sync_results(remote, "~/out", home)
    assert digest(home / "sparse") == digest(tmp_path / "node" / "out" / "sparse")
    assert used(home / "sparse") <= 2 * MIB


@pytest.mark.long
async def test_p18_many_files_starve_nobody(remote: ShellRemote, out: Path, home: Path) -> None:
    """50,000 files held the loop for 1.7 s, a third of the whole."""
    count = 20_000
    for number in range(count):
        if number % 1000 == 0:
            (out / f"d{number // 1000}").mkdir()
        (out / f"d{number // 1000}" / f"{number}").write_bytes(b"%d" % number)
    lag = Lag()
    watch = asyncio.ensure_future(lag.watch())
    start = time.monotonic()
    done = await sync_results(remote, "~/out", home)
    took = time.monotonic() - start
    watch.cancel()
    assert (done.files, done.received) == (count, count)
    assert lag.most < took / 8
    assert not parts(home)
    for folder in (out, home):
        shutil.rmtree(folder)  # pytest keeps the folders of its last three runs
