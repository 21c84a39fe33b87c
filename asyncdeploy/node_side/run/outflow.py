"""What a run prints, on its way to the client: frames, in order, as fast as the channel takes them.

A flood does not pass through our memory: the kernel moves its pages from the command's pipe into the channel's (splice,
which Python knows since 3.10), where copying them in and out takes twice what `yes` needs to print them.
"""

import os
import sys

from asyncdeploy.node_side.files import WIDE, widen

FLOOD = 1 << 16  # a pipe that was full: more is coming
FULL = 1 << 18  # unsent bytes; above it the command has to wait
AT_ONCE = 2  # SPLICE_F_NONBLOCK


class Outflow:
    """Frames on their way to the channel.

    What is sent next is first ``waiting``, then the next ``owed`` bytes of the pipe ``source``: the rest of a frame
    whose head has been queued. They are there, and we alone read them.
    """

    def __init__(self):
        self.waiting = bytearray()
        self.owed = 0
        self.source = -1
        self.held = None  # how many bytes a pipe holds, once there was a flood

    def is_full(self):
        return self.owed > 0 or len(self.waiting) >= FULL

    def is_idle(self):
        return not (self.waiting or self.owed)

    def add(self, data):
        """Queue a whole frame."""
        if data:
            self.settle()
            self.waiting += data

    def take(self, fd, kind):
        """Move on what a pipe holds; True when nothing will come of it any more."""
        self.settle()
        size = 0
        if self.held and not self.waiting:
            size = min(self.held(fd), WIDE)
        if size >= FLOOD:
            self.waiting += kind + size.to_bytes(4, "big")
            self.source, self.owed = fd, size
            return False
        try:
            data = os.read(fd, WIDE)
        except BlockingIOError:
            return False
        if data:
            self.waiting += kind + len(data).to_bytes(4, "big") + data
        if len(data) >= FLOOD and self.held is None:
            self.hurry(fd)
        return not data

    def hurry(self, fd):
        """A flood began: look for quicker ways, which most commands never need."""
        self.held = False
        if hasattr(os, "splice"):
            import fcntl
            import termios

            widen(fd)
            widen(1)
            self.held = lambda fd: int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    def flush(self):
        """Send what the channel takes now; OSError when it is broken, SystemExit when what is owed is not there."""
        try:
            while self.waiting:
                with memoryview(self.waiting) as view:
                    count = os.write(1, view)
                del self.waiting[:count]
            while self.owed:
                self.splice()
        except BlockingIOError:
            return

    def splice(self):
        """Let the channel take what it can of the pipe; where it takes nothing in this way, copy it."""
        try:
            count = os.splice(self.source, 1, self.owed, flags=AT_ONCE)
        except BlockingIOError:
            raise
        except OSError:  # it is neither a pipe nor a socket, or a sandbox forbids it; a broken one is written to next
            self.held = False
            self.settle()
        else:
            self.owed -= count
            if not count:
                self.settle()

    def settle(self):
        """Take what is owed into our memory, so that something else may follow."""
        while self.owed:
            try:
                data = os.read(self.source, self.owed)
            except BlockingIOError:
                data = b""
            if not data:
                raise SystemExit("somebody else reads the command's output")
            self.waiting += data
            self.owed -= len(data)

    def drop(self):
        """Nobody hears us any more: what comes is read, so that the command can end, and goes nowhere."""
        self.waiting = bytearray()
        self.owed = 0
        self.held = False
