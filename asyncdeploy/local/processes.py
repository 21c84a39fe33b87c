"""What runs on the nodes of LocalCluster: found by mark, session and descent, and ended when the cluster is.

A command may fork, leave its session and clear its environment; whatever does only some of that is found.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

# In the environment of everything that runs on a node; its value is the node's own.
MARKER = "ASYNCDEPLOY_LOCAL_NODE"
_PROC = Path("/proc")
# Between two looks at what is still there; a look costs about a millisecond a hundred processes.
_LOOK_S = 0.01


@attrs.frozen
class _Stat:
    """What the kernel tells of a live process; ``start`` in clock ticks since boot."""

    parent: int
    session: int
    start: int


def find_processes(mark: str, leaders: Mapping[int, int | None]) -> dict[int, str]:
    """Return the command lines, by pid, of everything that runs on a node; empty where there is no /proc.

    Args:
        mark: the node's value of ``MARKER``.
        leaders: the sessions started there, as ``LocalProcess`` noted them.

    Found is what carries the mark, belongs to such a session, or descends from one that does.
    """
    alive = {pid: stat for pid in _pids() if pid != os.getpid() and (stat := _read_stat(pid)) is not None}
    found = {pid for pid, stat in alive.items() if _is_in(stat.session, leaders, alive) or _has_mark(pid, mark)}
    while more := {pid for pid, stat in alive.items() if stat.parent in found} - found:
        found |= more
    return {pid: _command_line(pid) for pid in sorted(found)}


async def end_processes(mark: str, leaders: Mapping[int, int | None], *, within_s: float) -> dict[int, str]:
    """Kill everything that runs on a node and wait for its end; return what still lives after ``within_s`` seconds."""
    if not _PROC.joinpath("self").exists():
        for leader in leaders:
            _kill(leader, os.killpg)
        return {}
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while (left := find_processes(mark, leaders)) and loop.time() < end:
        for pid in left:
            _kill(pid, os.kill)
        await asyncio.sleep(_LOOK_S)
    return left


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: with its pid its identity; None if it is gone."""
    stat = _read_stat(pid)
    return stat.start if stat else None


def _kill(pid: int, kill: Callable[[int, int], None]) -> None:
    try:
        kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone, or a setuid program that only root may end: the next look tells


def _is_in(session: int, leaders: Mapping[int, int | None], alive: Mapping[int, _Stat]) -> bool:
    """Whether a session is one of ours; a leader that started at another time has only inherited the number."""
    return session in leaders and (session not in alive or alive[session].start == leaders[session])


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()) if _PROC.exists() else iter(())


def _read_stat(pid: int) -> _Stat | None:
    """The process, or None if it is gone or a zombie."""
    try:
        fields = _PROC.joinpath(str(pid), "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else _Stat(int(fields[1]), int(fields[3]), int(fields[19]))


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return f"{MARKER}={mark}".encode() in _PROC.joinpath(str(pid), "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _command_line(pid: int) -> str:
    try:
        return _PROC.joinpath(str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
