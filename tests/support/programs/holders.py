"""Who holds a detached job on its node: its supervisor, and the keeper above that."""

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncdeploy.node_side.job_folder import Pids
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually_sync, is_alive


def supervisor_of(folder: Path) -> int:
    """The supervisor of the job whose folder this is; on a node without python3 its keeper, which is both."""
    return Pids(os.fspath(folder)).holders[0][0]


def keeper_of(folder: Path) -> int:
    return Pids(os.fspath(folder)).holders[1][0]


def kill(*pids: int) -> None:
    """As the kernel does when memory is short; of several none sees another one die."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # a keeper that takes over has its guard replaced
            os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: not any(is_alive(pid) for pid in pids), f"{pids} have ended")


def kill_holders(folder: Path) -> None:
    """Kill both at once: nobody holds the job any more."""
    kill(*(pid for pid, _ in Pids(os.fspath(folder)).holders))


def named(node: SshdNode, name: str) -> list[int]:
    """The processes of a node with a name (adeploy-job, adeploy-keep, adeploy-guard), by the pids they have here."""
    return [pid for pid in node.processes() if _name_of(pid) == name]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """A process that can open nothing more, for a while."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
