"""A project to push, where it goes, and a node of either kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project with a file of each sort."""
    root = tmp_path / "proj"
    write(root, {"a.py": "print(1)\n", "src/b.py": "b" * 5000, "src/deep/c.txt": "c", "run.sh": "#!/bin/sh\n"})
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("src/b.py")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Where it goes on a node whose home is tmp_path/home."""
    return tmp_path / "home" / "proj"


@pytest.fixture(params=["python", "dash", "busybox"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    """A node with python3, and nodes without: what a push does is the same."""
    home = tmp_path / "home"
    async with ShellRemote(home) if request.param == "python" else PlainRemote(home, request.param) as found:
        yield found
