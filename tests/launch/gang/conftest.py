"""What is launched."""

from pathlib import Path

import pytest

from asyncdeploy.values.workspace import Workspace


@pytest.fixture
def workspace(project: Path) -> Workspace:
    """A project with one file."""
    (project / "a").write_text("a")
    return Workspace(project)
