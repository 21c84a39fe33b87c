"""What /proc says of processes and of this machine. What is not there is empty: it ended, or is not for us to see.

That /proc itself cannot be read, or that no descriptor is left for it, is an OSError: then nothing is known, and who
took it for "nothing runs" would report ends that never came.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import os

from asyncdeploy.node_side.files import read, text


class Process:
    """One row of the process table, from /proc/PID/stat. A start time is what tells two users of one pid apart."""

    __slots__ = ("name", "parent", "session", "start", "state")

    def __init__(self, stat):
        # The name stands in brackets and may hold any character, brackets and spaces too: it ends at the last one.
        head, _, tail = stat.rpartition(b")")
        rest = tail.split()
        self.name, self.state = head.partition(b"(")[2], rest[0]
        self.parent, self.session, self.start = int(rest[1]), int(rest[3]), int(rest[19])

    def has_ended(self):
        return self.state in (b"Z", b"X")  # only its parent's word is missing


def process(pid):
    """Return one process, None if there is no such."""
    stat = read("/proc/%d/stat" % pid)
    if not stat:
        check_sight()
    return Process(stat) if stat else None


def check_sight():
    """OSError if we do not even see ourselves: then that we do not see another one says nothing."""
    os.stat("/proc/self/stat")


def pids():
    check_sight()
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def table():
    """Return {pid: Process} of all that we may see."""
    found = {pid: process(pid) for pid in pids()}
    return {pid: row for pid, row in found.items() if row is not None}


def is_same(pid, start):
    """Whether the process that had this pid and start time lives: the kernel gives pids away again."""
    row = process(pid) if pid else None
    return row is not None and row.start == start and not row.has_ended()


def environ(pid):
    """Return the variables with which a process was started: {name: value}, as bytes."""
    return dict(item.partition(b"=")[::2] for item in read("/proc/%d/environ" % pid).split(b"\0"))


def is_marked(pid, marker):
    """Whether a process was started with a variable: b"NAME=value"."""
    return marker in read("/proc/%d/environ" % pid).split(b"\0")


def is_ours(pid):
    """Whether a process is our user's, wholly: one with the rights of two was started by the other one."""
    found = [line.split()[1:5] for line in text("/proc/%d/status" % pid).splitlines() if line.startswith("Uid:")]
    return found == [[str(os.getuid())] * 4]


def is_apart(pid):
    """Whether a process has pids of its own, as in a container."""
    try:
        return os.readlink("/proc/%d/ns/pid" % pid) != os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def place():
    """Name this machine or container for what is written down: its identity, and its name behind that, for people."""
    return "%s:%s" % (identity(), os.uname().nodename)


def is_here(written):
    """Whether a place that was written down is this one, whatever its name was then."""
    return written.rpartition(":")[0] == identity()


def host_of(written):
    """Return the name in a place that was written down."""
    return written.rpartition(":")[2]


def identity():
    """Name this boot of this machine or container: machines share homes, and containers share boot ids.

    The host's name is no part of it: DHCP and people change that at any time.
    """
    row = process(1)
    try:
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        namespace = ""
    return ":".join((boot(), str(row.start) if row else "", namespace))


def boot():
    """Name this boot of the machine."""
    return text("/proc/sys/kernel/random/boot_id").strip()
