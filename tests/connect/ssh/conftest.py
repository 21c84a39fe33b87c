"""What tests of the door share."""

from pathlib import Path

import pytest

from tests.support.beds.beside_ssh import BesideSsh


@pytest.fixture
def beside(tmp_path: Path) -> BesideSsh:
    """An ssh_config that OpenSSH's client and ours both follow."""
    folder = tmp_path / "beside"
    folder.mkdir()
    return BesideSsh(folder)
