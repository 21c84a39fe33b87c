"""Fixtures of all rings, and the check that no test leaves anything behind."""

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from tests.house.shares import long_first
from tests.support import leaks
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.secrecy import (  # noqa: F401 - found by pytest
    no_secret_is_told,
    pytest_configure,
    pytest_runtest_makereport,
)
from tests.support.tools import need

# Where bytecode is forbidden, each of some thousand processes would compile all of us anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = [
    "pytester",  # the leak check is itself checked
    "tests.support.beds.sshd",
    "tests.support.beds.users",
    "tests.support.beds.network",
    "tests.support.slurm.bed",
]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one process more than there are cores, as most tests wait; none where only files or tests are named."""
    if all(".py" in name for name in config.args):
        return 0  # a person looks at it: output and breakpoints as usual
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each process begin with its share of the long tests."""
    processes = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    long = [item for item in items if item.get_closest_marker("long")]
    short = [item for item in items if not item.get_closest_marker("long")]
    items[:] = long_first(long, short, processes)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., str]:
    """`make_key(name, passphrase="")`: the path of a new private key that no node knows."""
    need("ssh-keygen")

    def make(name: str, passphrase: str = "") -> str:
        path = tmp_path / name
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(words, check=True)
        return str(path)

    return make


@pytest.fixture
def key_path(make_key: Callable[..., str]) -> str:
    """A private key that no node knows."""
    return make_key("stranger")


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    """A node that is a folder, its home tmp_path/home, with a local shell."""
    async with ShellRemote(tmp_path / "home") as remote:
        yield remote


@pytest.fixture
async def pool(sshd_nodes: Sequence[SshdNode]) -> AsyncIterator[Pool]:
    """A pool that trusts the bed's nodes."""
    async with pool_for(sshd_nodes[0]) as pool:
        yield pool


@pytest.fixture
async def _leaks_of_async_test() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    # The pool of threads is the loop's for its whole life and opens nothing by itself; what runs in it may.
    fds, pids, tasks = leaks.open_descriptors(), leaks.children(), asyncio.all_tasks(loop)
    yield
    left = await leaks.settled(fds, pids, tasks)
    assert not left, "the test left behind:\n  " + "\n  ".join(left)


@pytest.fixture
def _leaks_of_plain_test() -> Iterator[None]:
    fds, pids = leaks.open_descriptors(), leaks.children()
    yield
    left = leaks.wait_settled(fds, pids)
    assert not left, "the test left behind:\n  " + "\n  ".join(left)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> None:
    """Fail a test that leaves a task, a descriptor or a child process.

    It is set up before the test's other fixtures of function scope and so looks after they are gone; what fixtures
    of a wider scope hold was there before.
    """
    is_async = inspect.iscoroutinefunction(inspect.unwrap(request.function))
    request.getfixturevalue("_leaks_of_async_test" if is_async else "_leaks_of_plain_test")
