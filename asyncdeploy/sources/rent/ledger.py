"""What was rented, written down before it costs anything: Ledger.

One file a rental, ``<state>/asyncdeploy/rentals/<rental>.ledger``, a JSON object a line, each on the disk (fsync)
before what it announces is done. Whoever makes or ends a rental holds a lock on its file, which falls with its
process: a file that nobody holds and that does not say "kept" belongs to somebody who died, and is reaped. A file goes
when all that it names is proven gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import attrs

from asyncdeploy.sources.rent.names import read_name
from asyncdeploy.sources.rent.want import Instance
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.account import home_folder

KEPT = (".rental", ".known_hosts", ".key")
"""What else lies there of a rental; its ledger goes last."""
LATEST = 1e11
"""Seconds since 1970, in the year 5138."""
MAX_BYTES = 1 << 20
"""Of a ledger: some hundred bytes a machine and event."""


@attrs.define
class Entry:
    """One machine that was asked for, or found.

    Attributes:
        name / provider: by which it is known.
        asked_at: when; a machine of which nobody heard may appear until a while later.
        ids: what the provider called it.
        shown: what lists showed under its name, by their ids.
        absent: how many lists in a row did not show it.
        gone: it is proven that it is not there.
    """

    name: str
    provider: str
    asked_at: float
    ids: list[str] = attrs.field(factory=list)
    shown: dict[str, Instance] = attrs.field(factory=dict)
    absent: int = 0
    gone: bool = False
    usd_per_hour: float | None = None

    def see(self, instance: Instance) -> None:
        """Note that a list shows it."""
        self.shown[instance.id] = instance
        self.absent, self.usd_per_hour = 0, instance.usd_per_hour


class Ledger:
    """The open ledger of one rental, locked; of a file of over MAX_BYTES its beginning."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.kept = False
        self.entries: dict[str, Entry] = {}
        self._fd = fd
        for line in _lines(os.pread(fd, MAX_BYTES, 0)):
            self._take(line)

    @property
    def key_path(self) -> Path:
        """Where the rental's private key lies."""
        return self.path.with_suffix(".key")

    @property
    def rental(self) -> str:
        """The rental's id."""
        return self.path.stem

    @classmethod
    def make(cls, rental: str) -> Self:
        """Make and lock the ledger of a new rental.

        Raises:
            OSError: it cannot be written; nothing was rented.
        """
        folder = rentals_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = folder / f"{rental}.ledger"
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_still(path, fd):
                break
            os.close(fd)  # a reaper found the empty file before we held it
        parent = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        return cls(path, fd)

    @staticmethod
    def known() -> tuple[str, ...]:
        """Return the ids of all rentals that have a ledger here."""
        return tuple(sorted(path.stem for path in rentals_folder().glob("*.ledger")))

    @classmethod
    def take(cls, rental: str) -> Self | None:
        """Lock and read a ledger that is there; None if there is none, or a living process holds it."""
        path = rentals_folder() / f"{rental}.ledger"
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if not _is_still(path, fd):
            os.close(fd)
            return None
        return cls(path, fd)

    def write_key(self, private: str) -> None:
        """Keep the rental's private key, for us alone."""
        fd = os.open(self.key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(private)

    def write(self, what: str, fields: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write a line, and return when it is on the disk.

        Raises:
            OSError: it is not; a part of it does not stay.
        """
        line = {"v": 1, "what": what, "at": time.time(), **fields}
        size = os.fstat(self._fd).st_size
        lead = b"\n" if size and os.pread(self._fd, 1, size - 1) != b"\n" else b""  # behind somebody's torn line
        data = lead + json.dumps(line).encode() + b"\n"
        try:
            written = os.write(self._fd, data)
            os.write(self._fd, data[written:])  # says why, where the first could not write all
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # what is torn is skipped by readers
                os.ftruncate(self._fd, size)
            raise
        self._take(line)

    def is_over(self, now: float) -> bool:
        """Return whether nobody wants what it names: its process died before it said "kept", or its time is over."""
        times = [name.until for text in self.entries if (name := read_name(text)) is not None]
        return not self.kept or all(until <= now for until in times)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Take file and key away, and what stands beside them: all that they name is proven gone."""
        for path in self.path.parent.glob(f".{self.rental}-*"):  # of one who died while he wrote
            path.unlink(missing_ok=True)
        for ending in KEPT:
            self.path.with_suffix(ending).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.close()

    def _take(self, line: dict[str, Any]) -> None:
        what, name = line.get("what"), line.get("name")
        if what == "kept":
            self.kept = True
        if not isinstance(name, str) or read_name(name) is None:
            return
        if what == "ask":
            self.entries[name] = Entry(name, str(line.get("provider")), _time(line.get("at")))
        elif name in self.entries and what == "made":
            self.entries[name].ids.append(str(line.get("id")))
        elif name in self.entries and what == "gone":
            self.entries[name].gone = True


async def opened(work: Callable[[list[Ledger]], None]) -> list[Ledger]:
    """Return the ledgers that work opens, in a thread; none stays open, and locked, when the caller is cancelled."""
    found: list[Ledger] = []
    try:
        await run_in_thread(work, found)
    except BaseException:
        for ledger in found:
            ledger.close()
        raise
    return found


def rentals_folder() -> Path:
    """Return where the ledgers of this machine's rentals lie."""
    state = os.environ.get("XDG_STATE_HOME") or home_folder() / ".local" / "state"
    return Path(state) / "asyncdeploy" / "rentals"


def _time(value: Any) -> float:
    """Return a time that a line says; 0 where it says none."""
    return float(value) if isinstance(value, int | float) and abs(value) < LATEST else 0.0


def _is_still(path: Path, fd: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_ino == os.fstat(fd).st_ino
    return False


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for raw in data.split(b"\n"):
        with contextlib.suppress(
            ValueError, RecursionError
        ):  # a torn line: who wrote it died before he did what it says
            line = json.loads(raw)
            if isinstance(line, dict):
                yield line
