"""Start the ranks of one node, keep their logs apart, and stop all of them when one fails.

Stands on a node as the launch's ``tools/rank_runner.py``, what it imports of ours beside it: Python >= 3.8, standard
library only. Arguments: a folder for
the logs, how many ranks there are on this node, the global rank of the first, how many there are in all. The variable
ASYNCDEPLOY_RANK_LINE holds the shell line of each, which stands in nobody's arguments; ASYNCDEPLOY_GRACE_S is the time
from TERM to KILL for the ranks beside one that failed. A first rank of "-" is one command that starts its ranks itself:
it is told none.

In the folder: ``<local rank>/stdout.log`` and ``stderr.log`` (of one command without a rank they stand in the folder
itself), and ``exits``, one line of JSON a rank that has ended. What ranks print also goes on to our own stdout and
stderr, with ``[local<n>]:`` before each line where there are several.
"""

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # where -I does not look
from asyncdeploy.node_side import named_programs

KILL_WAIT_S = 3.0  # a rank that KILL has not ended by then hangs in the kernel: nobody waits for it
DRAIN_S = 2.0  # for what a rank's children print when it has ended: they may hold its pipes for ever
TICK_S = 0.1
READ = 1 << 16
LINE = 9  # a descriptor that every shell can close
LINE_END = re.compile(rb"\r?\n|(?<=\r)(?=[^\n])")  # where a CR alone ends a line it is left
BAR_S = 1.0  # between two states of a progress bar that go on; all of them stand in the rank's own log
LONGEST_LINE = 1 << 16  # then it goes on without its end


class Rank:
    """One rank: its process, and its lines on their way."""

    def __init__(self, local, folder, words, environ):
        self.local = local
        self.exit_code = None
        logs = folder if local is None else os.path.join(folder, str(local))
        os.makedirs(logs, 0o700, exist_ok=True)
        self.process = subprocess.Popen(
            words,
            env=environ,
            pass_fds=[LINE] if words[-1].endswith("/fd/%d" % LINE) else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.streams = [
            Stream(self.process.stdout, 1, os.path.join(logs, "stdout.log")),
            Stream(self.process.stderr, 2, os.path.join(logs, "stderr.log")),
        ]

    def tell(self, number):
        """Pass a signal on to the program that the rank's line names; what that started is its own to end."""
        if self.exit_code is None:
            named_programs.tell(self.process.pid, number)

    def kill(self):
        """End the rank and what it started; its session's number is its own while it was not waited for."""
        if self.exit_code is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:
                return  # it has ended and is about to be waited for


class Stream:
    """What one rank prints on one of its two streams: whole into its file, line by line to ours."""

    def __init__(self, pipe, target, path):
        self.pipe = pipe
        self.target = target
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.line = b""
        self.shown_at = 0.0

    def take(self, tag):
        """Pass on what is there; False at its end."""
        data = os.read(self.pipe.fileno(), READ)
        write(self.file, data)
        if not tag:
            write(self.target, data)
            return bool(data)
        write(self.target, b"".join(tag + line + b"\n" for line in self.lines_of(data)))
        return bool(data)

    def lines_of(self, data):
        """Return the lines that are whole now; of a progress bar, which only ends each with a CR, one a while."""
        text = self.line + data
        *whole, self.line = LINE_END.split(text) if b"\r" in text else text.split(b"\n")
        if self.line and (not data or len(self.line) > LONGEST_LINE):
            whole, self.line = [*whole, self.line], b""
        found = []
        for line in whole:
            if line.endswith(b"\r"):  # the line ends of others are cut off
                now = time.monotonic()
                if not line.strip() or now - self.shown_at < BAR_S:
                    continue
                self.shown_at = now
            found.append(line.rstrip(b"\r"))
        return found


class Runner:
    """All ranks of the node, until the last has ended."""

    def __init__(self, folder, count, first, world, words):
        os.makedirs(folder, 0o700, exist_ok=True)
        self.folder = folder
        self.selector = selectors.DefaultSelector()
        self.grace = float(os.environ.get("ASYNCDEPLOY_GRACE_S", "5"))
        self.told = False  # somebody wants us to stop
        self.status = 0
        self.kill_at = None
        wake = os.pipe()
        for fd in wake:
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake[1])
        self.selector.register(wake[0], selectors.EVENT_READ, None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake us
        self.ranks = []
        for local in [None] if first == "-" else range(count):
            self.ranks.append(Rank(local, folder, words, rank_environ(local, count, first, world)))
            for stream in self.ranks[-1].streams:
                self.selector.register(stream.pipe, selectors.EVENT_READ, (self.ranks[-1], stream))

    def on_stop(self, number, _frame):
        self.told = True
        for rank in self.ranks:
            rank.tell(number)

    def run(self):
        """Return our exit status: that of the rank that failed first, 0 if none did."""
        while self.running() and not self.hangs():
            self.pump(TICK_S if self.kill_at else None)
            self.reap()
            if self.kill_at and time.monotonic() >= self.kill_at:
                for rank in self.ranks:
                    rank.kill()
        end = time.monotonic() + DRAIN_S
        while len(self.selector.get_map()) > 1 and time.monotonic() < end:
            self.pump(TICK_S)
        return self.status or (128 + signal.SIGTERM if self.told else 0)

    def hangs(self):
        """Whether what still runs had its time to end of KILL: our end is how the other nodes hear of the failure."""
        return self.kill_at is not None and time.monotonic() >= self.kill_at + KILL_WAIT_S

    def running(self):
        return [rank for rank in self.ranks if rank.exit_code is None]

    def pump(self, wait_s):
        tagged = len(self.ranks) > 1
        for key, _ in self.selector.select(wait_s):
            if key.data is None:
                os.read(key.fd, 4096)
                continue
            rank, stream = key.data
            if not stream.take(b"[local%d]:" % rank.local if tagged else b""):
                self.selector.unregister(stream.pipe)

    def reap(self):
        for rank in self.running():
            code = rank.process.poll()
            if code is None:
                continue
            rank.exit_code = code
            beside = self.told or bool(self.kill_at)
            end = {"local_rank": rank.local, "pid": rank.process.pid, "exit_code": code, "at": time.time()}
            self.note(dict(end, stopped=beside))
            if code and not beside:
                self.status = code if code > 0 else 128 - code
                self.kill_at = time.monotonic() + self.grace
                for other in self.running():
                    other.tell(signal.SIGTERM)

    def note(self, end):
        path = os.path.join(self.folder, "exits")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        write(fd, json.dumps(end).encode() + b"\n")
        os.close(fd)


def rank_environ(local, count, first, world):
    environ = dict(os.environ)
    if local is not None:
        rank = int(first) + local
        environ.update(RANK=str(rank), LOCAL_RANK=str(local), WORLD_SIZE=world, LOCAL_WORLD_SIZE=str(count))
    return environ


def keep_line(line):
    """Put a line where every shell can read it anew, as the descriptor LINE; return the words that run it."""
    plain = ["/bin/sh", "-c", line]
    try:
        kept = os.memfd_create("line")
    except (AttributeError, OSError):  # an old kernel, an old Python
        import tempfile

        try:
            with tempfile.TemporaryFile() as file:
                kept = os.dup(file.fileno())
        except OSError:
            return plain
    write(kept, b"exec %d<&-;" % LINE + os.fsencode(line))
    os.dup2(kept, LINE)
    os.close(kept)
    places = [folder for folder in ("/dev/fd", "/proc/self/fd") if os.path.exists("%s/%d" % (folder, LINE))]
    return ["/bin/sh", "-c", ". %s/%d" % (places[0], LINE)] if places else plain


def direct(line):
    """Return a line without the shell that would stand between us and a plain command, and hide its signal from us."""
    first = line.split()[0]
    plain = not set(line) & set(";&|<>()`{}!#\n")
    return "exec " + line if plain and shutil.which(first) else line


def write(fd, data):
    """Write all of it; a full disk or a reader that left costs the rest of it, and no rank its life."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        return


if __name__ == "__main__":
    _folder, _count, _first, _world = sys.argv[1:]
    _words = keep_line(direct(os.environ.pop("ASYNCDEPLOY_RANK_LINE")))
    sys.exit(Runner(_folder, int(_count), _first, _world, _words).run())
