"""Processes that KILL does not end: the old freezer holds them as a driver that hangs does."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tools import need_root

ROOT = Path("/sys/fs/cgroup/freezer")


@contextmanager
def freezer() -> Iterator["Freezer"]:
    """A freezer of our own; all that is in it is let go at the end."""
    need_root()
    if not (ROOT / "cgroup.procs").exists():
        pytest.skip("needs the freezer of cgroup v1: that of v2 lets KILL through")
    folder = ROOT / f"asyncdeploy-{os.getpid()}-{secrets.token_hex(3)}"
    folder.mkdir()
    try:
        yield Freezer(folder)
    finally:
        (folder / "freezer.state").write_text("THAWED")
        for pid in (folder / "cgroup.procs").read_text().split():
            (ROOT / "cgroup.procs").write_text(pid)
        folder.rmdir()


class Freezer:
    """What is put into it stands still, whatever signals it gets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def freeze(self, pid: int) -> None:
        """Hold a process; what it starts later would be held too."""
        (self._folder / "cgroup.procs").write_text(str(pid))
        (self._folder / "freezer.state").write_text("FROZEN")
