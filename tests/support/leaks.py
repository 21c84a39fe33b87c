"""What a test left behind: descriptors, child processes, tasks."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

# How long things that end by themselves (a closed transport, a killed child not yet reaped) may take to go.
SETTLE_S = 5.0
# Between two looks; a look costs about 0.1 ms.
LOOK_S = 0.01


def open_descriptors() -> dict[int, str]:
    """Every open descriptor of this process and what it points at."""
    found = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:  # the descriptor of this listing itself
            continue
    return found


def children() -> dict[int, str]:
    """Every child process of this process, zombies included, and its command line."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # the thread ended while we looked
            continue
        for pid in pids:
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):  # reaped while we looked
                continue
            # Python's own, one a process and for its whole life.
            if "multiprocessing.resource_tracker" not in line:
                found[int(pid)] = line.strip() or "(zombie)"
    return found


def new_descriptors(before: Mapping[int, str]) -> list[str]:
    """Descriptors that were not there, or pointed elsewhere, if there are more than before."""
    now = open_descriptors()
    if len(now) <= len(before):
        return []
    return [f"descriptor {fd} -> {target}" for fd, target in sorted(now.items()) if before.get(fd) != target]


def new_children(before: Mapping[int, str]) -> list[str]:
    """Child processes that were not there before."""
    return [f"process {pid}: {line}" for pid, line in sorted(children().items()) if pid not in before]


def new_tasks(before: set["asyncio.Task[object]"]) -> list[str]:
    """Pending tasks of the running loop that were not there before, except the one that looks."""
    ours = asyncio.current_task()
    return [f"task {task!r}" for task in asyncio.all_tasks() if task not in before and task is not ours]


def looks() -> Iterator[int]:
    """Count looks until the time to settle is over; garbage is collected when waiting alone did not help."""
    end = time.monotonic() + SETTLE_S
    count = 0
    while time.monotonic() < end:
        yield count
        count += 1
        if count in (3, 30):
            gc.collect()


def wait_settled(fds: Mapping[int, str], pids: Mapping[int, str]) -> list[str]:
    """What a plain test left, after a bounded wait."""
    left: list[str] = []
    for _ in looks():
        left = new_descriptors(fds) + new_children(pids)
        if not left:
            return []
        threading.Event().wait(LOOK_S)
    return left


async def settled(fds: Mapping[int, str], pids: Mapping[int, str], tasks: set["asyncio.Task[object]"]) -> list[str]:
    """What an async test left, after a bounded wait in which the loop turns."""
    left: list[str] = []
    for _ in looks():
        left = new_tasks(tasks) + new_descriptors(fds) + new_children(pids)
        if not left:
            return []
        await asyncio.sleep(LOOK_S)
    return left
