"""Run a driver beside the engine of its launch: in that one's environment, and no longer than it lives.

Stands on node rank 0 as the launch's ``tools/driver.py``, what it imports of ours beside it: Python >= 3.8, standard
library only. Arguments: the launch's id, and the names of variables that stay as they are. ASYNCDEPLOY_DRIVER_LINE
holds the shell line.

The environment is what the engine was started with, as the kernel keeps it: a token, a certificate lies in the memory
of that process, on no disk, and goes with it. A driver whose engine is gone would wait for it (Ray's for a minute): it
is told to end, and its status is ENGINE_GONE.

Where the engine runs in a container of ours, this program runs once more, in there (inside.py).
"""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # where -I does not look
from asyncdeploy.node_side import files, named_programs, proc
from asyncdeploy.node_side.engines import inside

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINE_GONE = 75
LINE = "ASYNCDEPLOY_DRIVER_LINE"
INSIDE, END = "--inside", "--end"  # no names of variables
LOOK_S = 0.1
TERM_S = 3.0  # for a driver whose engine is gone
OWN = (b"PWD", b"OLDPWD", b"SHLVL", b"_", b"HOME", b"USER", b"LOGNAME")
NOT_OURS = (b"ASYNCDEPLOY_", b"SSH_")  # marks of the engine's own run; what a login says of its connection
SHARED = (b"ASYNCDEPLOY_NODE_IPS", b"ASYNCDEPLOY_NUM_NODES", b"ASYNCDEPLOY_ATTEMPT", b"ASYNCDEPLOY_NODE_RANK")


class Engine:
    """The process that the engine was started by on this node."""

    def __init__(self, launch_id):
        launch = os.path.dirname(HERE)
        self.pid = int(files.text(os.path.join(launch, "rank-0", "engine.pid")).strip() or "0")
        row = proc.process(self.pid) if self.pid else None
        self.start = row.start if row else None
        self.environ = proc.environ(self.pid) if row and proc.is_ours(self.pid) else {}
        if self.environ.get(b"ASYNCDEPLOY_RUN_ID") != launch_id.encode():  # gone, or the number is another one's by now
            self.start = None

    def lives(self):
        return self.start is not None and proc.is_same(self.pid, self.start)


def merged(own, engine, kept):
    """Return the driver's variables: the engine's, but for its marks and for what the driver's owner has set."""
    found = dict(own)
    for name, value in engine.items():
        ours = name.startswith(NOT_OURS) and name not in SHARED
        if not ours and name not in OWN and name not in kept:
            found[name] = value
    path = [found[b"PYTHONPATH"]] if found.get(b"PYTHONPATH") else []
    found[b"PYTHONPATH"] = b":".join([*path, os.getcwdb()])  # as the engine's own: what a task imports the driver does
    return found


def run(engine, environ, line):
    """Run the line and return its status as Popen has it, or ENGINE_GONE."""
    child = subprocess.Popen(["/bin/sh", "-c", line], env=environ)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda told, _frame: named_programs.tell(child.pid, told))
    while True:
        try:
            return child.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            if not engine.lives():
                return gone(child)


def say(launch_id, what):
    print("asyncdeploy: the engine of %s %s" % (launch_id, what), file=sys.stderr)


def gone(child):
    named_programs.tell(child.pid)
    end = time.monotonic() + TERM_S
    while child.poll() is None and time.monotonic() < end:
        time.sleep(LOOK_S)
    return ENGINE_GONE  # whatever is left ends with us


def run_inside(container, launch_id, names):
    """Be the driver's place on the node while it runs in the engine's container."""
    status = container.run([LINE, *names], [os.path.abspath(__file__), launch_id, INSIDE, *names])
    if status != 0 and status != ENGINE_GONE and container.has_ended():
        say(launch_id, "has ended, and its driver with it")
        return ENGINE_GONE
    return status


def main(launch_id, *names):
    container = inside.Container(os.path.join(os.path.dirname(HERE), "rank-0"))
    if names == (END,):
        return inside.end_surely()
    if names[:1] == (INSIDE,):
        names = names[1:]
        for name in inside.MARKS:  # those of the engine's own run, where the driver has none
            if not os.environ[name]:
                del os.environ[name]
    elif container:
        return run_inside(container, launch_id, names)
    engine = Engine(launch_id)
    if not engine.lives():
        say(launch_id, "does not run on this node")
        return ENGINE_GONE
    own = dict(os.environb)
    line = os.fsdecode(own.pop(LINE.encode()))
    status = run(engine, merged(own, engine.environ, [name.encode() for name in names]), line)
    if status == ENGINE_GONE and not engine.lives():
        say(launch_id, "has ended, and its driver with it")
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
