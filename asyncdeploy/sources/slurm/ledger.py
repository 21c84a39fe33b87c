"""Which Slurm jobs are ours to end, should we die: a file each, on the disk before salloc, locked by who lives."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.account import home_folder
from asyncdeploy.values.regex import regex

MAX_BYTES = 64 * 1024
"""Of a file: a name and a login node with its jump hosts."""
_NAME = regex(r"ad-[0-9a-f]{12}")


@attrs.frozen
class Noted:
    """A job that is written down, and our lock on it, which falls with our process.

    Attributes:
        name: the job's, which nothing else has.
        login: the node on which it was asked for.
    """

    name: str
    login: Node
    _path: Path
    _fd: int

    def remove(self) -> None:
        """Take the file away: the job is proven gone."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def note(held: list[Noted], name: str, login: Node) -> None:
    """Write a job down, and hold it.

    Raises:
        OSError: it is not on the disk.
    """
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, unborn = folder / f"{name}.json", folder / f".{name}"
    fd = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    held.append(Noted(name, login, path, fd))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with os.fdopen(os.dup(fd), "w") as file:  # a lock belongs to all that were made from one descriptor
            json.dump({"name": name, "login": login.to_dict()}, file)
        os.fsync(fd)
        unborn.rename(path)  # locked already: nobody finds it who could take it for a dead one's
    except OSError:
        unborn.unlink(missing_ok=True)
        raise
    parent = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def take_dead(held: list[Noted]) -> None:
    """Hold every job that is written down and that nobody holds."""
    for path in sorted(_folder().glob("ad-*.json")):
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        noted = _read(path, fd)
        if noted is not None:
            held.append(noted)
        else:
            os.close(fd)


def any_noted() -> bool:
    """Return whether a job is written down here, a living process's or a dead one's."""
    return any(_folder().glob("ad-*.json"))


def _read(path: Path, fd: int) -> Noted | None:
    """Lock and read a file; None where a living process holds it, it has gone meanwhile, or it is none of ours."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino != os.fstat(fd).st_ino:
            return None
        said = json.loads(os.pread(fd, MAX_BYTES, 0))
        name, login = said["name"], Node.from_dict(said["login"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return Noted(name, login, path, fd) if name == path.stem and _NAME.fullmatch(name) else None


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or home_folder() / ".local" / "state"
    return Path(state) / "asyncdeploy" / "allocations"
