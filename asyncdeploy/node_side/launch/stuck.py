"""A process that KILL does not end: whoever sent that may wait for it for ever, as older agents of torchrun do.

Runs on a node, used by membership.py: Python >= 3.8, standard library only. Only the leader's own children count: what
is further away may hang while the rank is well.
"""

from asyncdeploy.node_side import files, proc

LOOK_S = 2.0  # between two looks; each walks all of /proc
WAIT_S = 8.0  # one that is just going, with much memory to give back, takes some seconds
KILL_BIT = 1 << 8


class Stuck:
    """Attributes: found (pid and name of one that is stuck, "" while none is)."""

    def __init__(self):
        self.since = {}  # (pid, start) -> when KILL was first seen to be pending
        self.look_at = 0.0
        self.found = ""

    def tick(self, leader, now):
        """Look at a leader's children, if it is time."""
        if now < self.look_at or self.found:
            return
        self.look_at = now + LOOK_S
        table = proc.table()
        waiting = {(pid, row.start): row for pid, row in table.items() if row.parent == leader and is_killed(pid)}
        self.since = {key: self.since.get(key, now) for key in waiting}
        for (pid, start), row in waiting.items():
            if now - self.since[pid, start] >= WAIT_S:
                self.found = "%d %s" % (pid, row.name.decode("utf-8", "replace"))


def is_killed(pid):
    """Whether KILL is pending on a process: it has not come to hear of it."""
    for row in files.read("/proc/%d/status" % pid).splitlines():
        name, _, mask = row.partition(b":")
        if name in (b"SigPnd", b"ShdPnd") and int(mask, 16) & KILL_BIT:
            return True
    return False
