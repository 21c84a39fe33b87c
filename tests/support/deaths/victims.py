"""Who of a node's processes is what, seen from outside, and how it dies."""

import contextlib
import os
import signal
from pathlib import Path

import attrs

from tests.support.beds.sshd_node import SshdNode
from tests.support.odd_nodes import hung
from tests.support.programs.holders import named

HOLDERS = {"supervisor": "adeploy-job", "keeper": "adeploy-keep", "guard": "adeploy-guard"}


@attrs.frozen
class Row:
    """A process as /proc shows it."""

    pid: int
    name: str
    parent: int
    start: int


def rows(sshd: SshdNode) -> list[Row]:
    """Everything that runs on a node but sshd."""
    found = []
    for pid in sshd.processes():
        with contextlib.suppress(OSError):
            head, _, tail = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
            if tail.split()[0] not in "ZX":
                words = tail.split()
                found.append(Row(pid, head.partition("(")[2], int(words[1]), int(words[19])))
    return found


def find(sshd: SshdNode, what: str) -> list[int]:
    """The pids of those who are "supervisor", "keeper", "guard", "worker", "leader", "process" or "session" there."""
    if what == "session":
        return sshd.sessions()
    if what in HOLDERS:
        return named(sshd, HOLDERS[what])
    seen = rows(sshd)
    ours = {row.pid for row in seen if row.name.startswith("adeploy-")}
    workers = {pid for pid in hung.pids(sshd) if pid not in ours}
    if what == "worker":
        return sorted(workers)
    # What orphans of theirs come to is the same parent; the leader was there first.
    below = sorted((row.start, row.parent, row.pid) for row in seen if row.parent in ours | workers)
    firsts = {parent: pid for _, parent, pid in reversed([each for each in below if each[2] not in ours | workers])}
    leaders = set(firsts.values())
    if what == "leader":
        return sorted(leaders)
    return sorted({row.pid for row in seen} - ours - workers - leaders)


def send(pids: list[int], signum: signal.Signals) -> None:
    """A signal to each that lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
