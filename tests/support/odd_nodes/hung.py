"""Our workers on a node, and what becomes of them on a disk that does not answer: they hang.

with hung.workers(sshd):
    await run_command(remote, "true")  # over one that hangs
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.beds.sshd_node import SshdNode

_LINE = "import os,sys,_frozen_importlib_external"
"""In the arguments of each, as remote/interpreter.py begins it."""


def pids(sshd: SshdNode) -> list[int]:
    """Our workers, and the supervisors of jobs, which are forked from one."""
    return [pid for pid, line in sshd.processes().items() if _LINE in line]


@contextmanager
def workers(sshd: SshdNode) -> Iterator[list[int]]:
    """Those that are there hang until the block's end; their pids."""
    found = pids(sshd)
    assert found, "no worker of ours is on the node"
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield found
    finally:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
