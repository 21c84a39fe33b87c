"""A node, the folder on it that is collected, and where that comes to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.remotes.shell_remote import ShellRemote


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[ShellRemote]:
    """The node; its home is tmp_path/node."""
    async with ShellRemote(tmp_path / "node") as remote:
        yield remote


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
