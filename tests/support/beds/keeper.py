"""A program that keeps one node's server and everything that descends from it, and ends all of it when we are gone.

    keeper.py LOG COMMAND...

It makes itself the subreaper of what it starts, so that no setsid, double fork or cleared environment gets out of
sight. It reads lines on stdin and answers each with one line on stdout:

    start   run COMMAND (again); its pid
    sweep   end all descendants but the running COMMAND; how many there were

The end of stdin, so also our sudden death, ends every descendant. Standard library only: it runs with any python3.
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
# SIGKILL needs a moment; what survives this long hangs in the kernel, and saying so is all that is left.
END_S = 20.0


def descendants(root: int, spare: int | None = None) -> Iterator[int]:
    """Every live process below `root`, deepest last; `spare` alone is left out, not what is below it."""
    for child in children(root):
        if child != spare and not is_zombie(child):
            yield child
        yield from descendants(child)


def children(pid: int) -> list[int]:
    """The direct children of a process, from all of its threads."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return found
    for task in tasks:
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be reaped, or is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def reap() -> None:
    """Take the status of every child that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def sweep(spare: int | None) -> int:
    """Kill every descendant but `spare` until none is left; how many there were."""
    killed = set()
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        alive = list(descendants(os.getpid(), spare))
        for pid in alive:
            killed.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap()
        if not alive:
            return len(killed)
        time.sleep(0.005)
    raise SystemExit(f"keeper: still alive: {alive}")


def start(log: str, argv: list[str]) -> int:
    """Start the kept command in a session of its own, its output going to the end of `log`."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    return os.posix_spawnp(argv[0], argv, environ, file_actions=actions, setsigmask=[], setsigdef=[signal.SIGINT])


def main() -> None:
    """Serve until stdin ends."""
    log, *argv = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes our stdin
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    current: int | None = None
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            reap()
        if 0 in ready:
            line = os.read(0, 4096)
            if not line:
                break
            if line == b"start\n":
                current = start(log, argv)
                answer = current
            else:
                answer = sweep(current)
            os.write(1, b"%d\n" % answer)
    sweep(None)


if __name__ == "__main__":
    main()
