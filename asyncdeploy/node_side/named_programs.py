"""Whom a TERM is for: the programs that a line names, through shells and ``uv run`` to the first that are neither.

TERM means "save": a trainer that saves needs its helpers alive (DataLoader workers) and its TERM once, as `kill PID`
gives it. All that stands around it ends with it, or is killed.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import _signal as signal
import os

from asyncdeploy.node_side import files, proc

SHELLS = (
    *("sh", "ash", "dash", "bash", "rbash", "zsh", "ksh", "ksh93", "mksh", "lksh", "oksh", "yash", "posh", "fish"),
    *("csh", "tcsh"),
)
AGENT = b"/tools/torchrun.py"  # ours of a launch (node_side/launch/torchrun.py), below its folder
TERM, QUIT, ALRM = signal.SIGTERM, signal.SIGQUIT, signal.SIGALRM


class Line:
    """What runs below a leader, as it is at this moment.

    Attributes: named ([(pid, start)] of those that TERM is for), awaited (the same, and shells that have something to
    do at their end, which come to it by themselves).
    """

    def __init__(self, leader):
        self.table = proc.table()
        self.named, self.passed, self.around, self.ends = [], [], [], []
        if leader in self.table:
            self.follow(leader)
        saving = [pid for pid in self.ends if Signals(pid).catches(TERM)]
        # Of a pipeline those that wait for it: `tee`, which would just die, has to print what they say meanwhile. Where
        # nobody does, the shells around them end too: what follows in the line must not begin.
        self.named += saving or self.around + self.ends
        self.awaited = self.with_starts(self.named + self.passed)
        self.named = self.with_starts(self.named)

    def with_starts(self, pids):
        return [(pid, self.table[pid].start) for pid in pids]

    def follow(self, pid):
        """Go from a process through its children."""
        children = [child for child, row in self.table.items() if row.parent == pid and not row.has_ended()]
        program = passed(pid)
        if not children or not program:
            self.ends.append(pid)
            return
        signals = Signals(pid)
        # A shell starts what it does not wait for with QUIT ignored.
        ahead = [child for child in children if signals.ignores(QUIT) or not Signals(child).ignores(QUIT)]
        if program == "torchrun":
            # Told itself, it would send TERM to whole groups, helpers and all: the ranks are, and it ends with them.
            ahead = [child for child in children if b"LOCAL_RANK" in proc.environ(child)]
            if not ahead:
                self.ends.append(pid)
                return
            self.passed.append(pid)
        elif program == "uv":
            self.passed.append(pid)  # what it was told it would tell its child
        elif signals.catches(TERM) and not signals.catches(ALRM):
            # A script with a trap for TERM. While it waits for a program in front it is deaf, so that one has to be
            # told too; what it started beside itself is its own to end.
            self.named.append(pid)
            children = ahead
        elif signals.catches(TERM):
            self.passed.append(pid)  # a bash with a trap for its end, which catches all there is; or a mksh
        else:
            self.around.append(pid)
        for child in sorted(ahead or children, key=lambda each: (self.table[each].start, each)):
            self.follow(child)


class Signals:
    """What a process does about signals; nothing of one that is gone."""

    def __init__(self, pid):
        self.masks = {}
        for row in files.read("/proc/%d/status" % pid).splitlines():
            name, _, mask = row.partition(b":")
            if name in (b"SigIgn", b"SigCgt"):
                self.masks[name] = int(mask, 16)

    def catches(self, number):
        return self.has(b"SigCgt", number)

    def ignores(self, number):
        return self.has(b"SigIgn", number)

    def has(self, name, number):
        return bool(self.masks.get(name, 0) >> (number - 1) & 1)


def passed(pid):
    """Return the name of what only stands in front of what people named, a shell, `uv run`, our torchrun; else ""."""
    try:
        program = os.path.basename(os.readlink("/proc/%d/exe" % pid))  # a script's own name stands in its stat
    except OSError:
        return ""  # another user's (sudo), or gone
    words = files.read("/proc/%d/cmdline" % pid).split(b"\0")
    if program == "busybox":
        words = words[1:] if os.path.basename(words[0]) == b"busybox" else words
        program = os.fsdecode(os.path.basename(words[0] if words else b"")).lstrip("-")
    if any(word.endswith(AGENT) and b"/launches/" in word for word in words[1:3]):
        return "torchrun"
    return program if program in SHELLS or (program == "uv" and b"run" in words) else ""


def tell(leader, number=TERM):
    """Send a signal to whom it is for; return [(pid, start)] of those whose end is then awaited."""
    line = Line(leader)
    for pid, _ in line.named:
        try:
            os.kill(pid, number)
        except OSError:
            continue  # it ended meanwhile
    return line.awaited
