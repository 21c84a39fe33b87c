"""Pushes whose client is killed at random points, and a reader on the node that meets each of their swaps."""

import asyncio
import fcntl
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from tests.support.places import ROOT
from tests.support.remotes import push_client
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import change_files, tree, write
from tests.support.waiting import eventually

SEED = 20_261_124
KILLS = int(os.environ.get("ASYNCDEPLOY_KILLS") or 60)
"""Of all three kinds together; 200 are for whoever changes how a tree is swapped."""
LARGE = 6 << 20


class Client:
    """A process whose children push."""

    def __init__(self, process: "subprocess.Popen[str]", source: Path, homes: list[Path]) -> None:
        self.process = process
        self.words = "\t".join(map(str, (source, *homes))) + "\n"

    def begin(self) -> int:
        """Let it push, and return the pid that does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(self.words)
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Return how the push ended."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    """The process of a Client."""
    words = [sys.executable, "-m", push_client.__name__]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        yield process


def change_large(root: Path, dice: random.Random) -> None:
    """Change some pieces of a large file, and its end."""
    large = root / "large"
    if not large.exists():
        large.write_bytes(dice.randbytes(LARGE))
    with large.open("r+b") as file:
        for _ in range(6):
            file.seek(dice.randrange(LARGE))
            file.write(dice.randbytes(100))
        file.truncate(LARGE + dice.randrange(100_000))
    write(root, {"small": dice.randbytes(10)})


def change_both(root: Path, dice: random.Random) -> None:
    change_files(root, dice)
    change_large(root, dice)


def is_free(site: Path) -> bool:
    """Whether no receiver holds the site."""
    try:
        with (site / ".asyncdeploy/lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True


def marks(sites: list[Path]) -> list[bool]:
    return [is_free(site) for site in sites]


@pytest.mark.parametrize(
    "nodes, change, share",
    [
        pytest.param(1, change_files, 0.4, id="small files"),
        pytest.param(1, change_large, 0.35, id="pieces of a large one"),
        pytest.param(3, change_both, 0.25, id="by way of other nodes"),
    ],
)
@pytest.mark.long
@pytest.mark.timeout(120 + KILLS)
async def test_e4_killed_at_random_points_each_node_has_the_old_tree_or_the_new_one(
    process: "subprocess.Popen[str]", tmp_path: Path, nodes: int, change, share: float
) -> None:
    dice = random.Random(SEED + nodes)
    source, homes = tmp_path / "proj", [tmp_path / f"node-{number}" for number in range(nodes)]
    for folder in (source, *homes):
        folder.mkdir()
    sites = [home / "proj" for home in homes]
    client = Client(process, source, homes)

    def push_whole() -> float:
        start = time.monotonic()
        client.begin()
        assert client.end() == 0
        wanted = tree(source)
        for site in sites:
            assert tree(site) == wanted
            assert list((site / ".asyncdeploy/staging").iterdir()) == []
        return time.monotonic() - start

    change(source, dice)
    push_whole()
    change(source, dice)
    whole_s = push_whole()
    seen = set()
    for number in itertools.count():
        if number >= share * KILLS and seen == {"old", "new"}:
            break
        before = [tree(site) for site in sites]
        change(source, dice)
        pid = client.begin()
        await asyncio.sleep(dice.uniform(0, 1.2 * whole_s))  # the point is a time: there is nothing to wait for
        with suppress(ProcessLookupError):  # it may have been faster
            os.kill(pid, signal.SIGKILL)
        client.end()
        await eventually(lambda: all(marks(sites)), "the receivers are done")
        wanted = tree(source)
        for site, old in zip(sites, before, strict=True):
            after = tree(site)
            assert after in (old, wanted), f"kill {number} left a torn tree"
            assert not (site / ".asyncdeploy/journal").exists()
            seen.add("old" if after == old else "new")
        if number % 5 == 4:
            push_whole()


async def test_a_reader_of_the_tree_sees_whole_files_only(tmp_path: Path) -> None:
    """While versions are pushed over each other, small files and a large one that is mended."""
    dice = random.Random(SEED)
    source, site = tmp_path / "proj", tmp_path / "home" / "proj"
    names = [*(f"file{number}" for number in range(8)), "large"]
    known: set[bytes] = set()
    read: set[bytes] = set()
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            for name in names:
                with suppress(FileNotFoundError):
                    read.add(hashlib.sha256((site / name).read_bytes()).digest())

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        async with ShellRemote(tmp_path / "home") as remote:
            for _ in range(12):
                write(source, {name: dice.randbytes(50_000) for name in names[:-1]})
                change_large(source, dice)
                (source / "small").unlink()
                known |= {hashlib.sha256((source / name).read_bytes()).digest() for name in names}
                await push_code(remote, source)
    finally:
        over.set()
        reader.join()
    assert read <= known
    assert len(read) > 2 * len(names), "it saw several versions"
