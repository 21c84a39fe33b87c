"""A project to push, and where it goes."""

from pathlib import Path

import pytest

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
