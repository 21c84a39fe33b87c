"""What all tests of Slurm's nodes need."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write jobs down in a folder of the test's own: another test's reap must not find them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
