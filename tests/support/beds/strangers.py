"""Another user of a node, who prepares folders and waits; and a folder such as /tmp, where all may write."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tools

UID = 61_999
"""A user without an account: all that counts is that he is neither root nor us."""


class Stranger:
    """A user who is not ours; `shared` is a folder where he and we may write, as in /tmp."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared

    def sh(self, script: str) -> bool:
        """Run a script as he would, in the shared folder; whether it exited 0."""
        line = ["sh", "-c", script]
        done = subprocess.run(line, user=UID, group=UID, extra_groups=[], cwd=self.shared, check=False, env={})
        return done.returncode == 0

    def run(self, script: str) -> None:
        """The same, where it must succeed."""
        assert self.sh(script), script


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Another user, and a folder with the sticky bit that he shares with us; needs root."""
    tools.need_root()
    # Not below pytest's own folder, which is closed to him.
    shared = Path(tempfile.mkdtemp(prefix="ad-shared-"))
    shared.chmod(0o1777)
    try:
        yield Stranger(shared)
    finally:
        shared.chmod(0o700)
        shutil.rmtree(shared)
