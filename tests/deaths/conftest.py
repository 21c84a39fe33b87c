"""What the tests of the table of deaths share: a project, and times that are short."""

from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.deaths import asker


@pytest.fixture
def workspace(project: Path) -> ad.Workspace:
    """A project with one file."""
    (project / "a").write_text("a")
    return ad.Workspace(project)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life are often, and silences short."""
    for place, seconds in asker.HASTE.items():
        monkeypatch.setattr(place, seconds)
