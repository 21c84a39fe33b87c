"""A driver inside the container of its engine: begun there by docker or podman, told of signals, ended.

Loaded by driver.py on a node: Python >= 3.8, standard library only. The engine has written down into which container,
by which program, and the Python of the environment there. The driver's own marks go in with it; the client that
carries its streams passes no signal on, and what the driver leaves behind is no child of it.
"""

import os
import signal
import subprocess
import time

from asyncdeploy.node_side import files, proc

MARKS = ("ASYNCDEPLOY_RUN", "ASYNCDEPLOY_JOB", "ASYNCDEPLOY_TREE", "ASYNCDEPLOY_ONLY_LOOK")
PAUSES_S = (0.0, 0.2, 1.0)  # a daemon that was still at it when its client was killed has begun it a moment later
GONE_S = 3.0  # a container's end takes the daemon so long to know
ASK_S = 10.0


class Container:
    """Where the engine runs; false on a node whose engine runs on the node itself."""

    def __init__(self, folder):
        lines = files.text(os.path.join(folder, "engine.container")).splitlines()
        self.tool, _, self.name = lines[0].rpartition(" ") if len(lines) == 2 else ("", "", "")
        self.python = lines[1] if self.name else ""

    def __bool__(self):
        return bool(self.name)

    def run(self, names, words):
        """Run driver.py with these words inside, and return its status as Popen has it.

        ``names``: of variables of ours that go in by name: their values stand in no argument.
        """
        environ = dict(os.environ, **{name: os.environ.get(name, "") for name in MARKS})
        options = [word for name in sorted({*names, *MARKS}) for word in ("-e", name)]
        words = [self.tool, "exec", "-i", "-w", os.getcwd(), *options, self.name, self.python, "-I", *words]
        child = subprocess.Popen(words, env=environ)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda told, _frame: tell(told))
        status = child.wait()
        end()  # what it left there
        return status

    def has_ended(self):
        """Whether the container is gone; waits for it, where that is about to be known."""
        end_at = time.monotonic() + GONE_S
        while self._runs():
            if time.monotonic() > end_at:
                return False
            time.sleep(0.1)
        return True

    def _runs(self):
        words = [self.tool, "inspect", "-f", "{{.State.Running}}", self.name]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=ASK_S
            )
        except (OSError, subprocess.TimeoutExpired):
            return True  # nobody knows
        return done.stdout.strip() == b"true"


def own():
    """Return the driver's processes that have pids of their own: what runs for us in a container, {pid: Process}."""
    name = "ASYNCDEPLOY_JOB" if os.environ.get("ASYNCDEPLOY_JOB") else "ASYNCDEPLOY_RUN"
    marker = ("%s=%s" % (name, os.environ.get(name, ""))).encode()
    return {pid: row for pid, row in proc.table().items() if proc.is_marked(pid, marker) and proc.is_apart(pid)}


def tell(number):
    """Give a signal to the program that we began there; it knows whom it is for."""
    found = own()
    for pid, row in found.items():
        if row.parent not in found:
            send(pid, number)


def end():
    """Kill what is left of a driver there."""
    for pid in own():
        send(pid, signal.SIGKILL)


def end_surely():
    """Kill it, also what a client that was killed had just begun."""
    for pause in PAUSES_S:
        time.sleep(pause)
        end()


def send(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it ended meanwhile
