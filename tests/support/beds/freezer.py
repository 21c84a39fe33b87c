"""Processes that KILL does not end, as where a driver hangs, and processes that can start no others: old cgroups."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tools import need_root

ROOT = Path("/sys/fs/cgroup/freezer")
PIDS = Path("/sys/fs/cgroup/pids")


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


@contextmanager
def childless(pids: Iterable[int]) -> Iterator[None]:
    """Processes that can start no more of them, as where an account or a container has as many as it may."""
    need_root()
    if not (PIDS / "cgroup.procs").exists():
        pytest.skip("needs the pids controller of cgroup v1")
    folder = PIDS / f"asyncdeploy-{os.getpid()}-{secrets.token_hex(3)}"
    folder.mkdir()
    try:
        (folder / "pids.max").write_text("0")  # who moves in is not counted against it
        for pid in pids:
            (folder / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            (PIDS / "cgroup.procs").write_text(pid)
        folder.rmdir()
