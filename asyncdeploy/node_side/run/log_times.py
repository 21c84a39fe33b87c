"""When a log grew: marks of a time and a size, so that the logs of many nodes can be read in the order of time.

Runs on a node, loaded by jobs.py, for ranks of a launch also in their supervisor: Python >= 3.8, standard library only.
A job's file "times" holds the marks, each a node's time (seconds since 1970) and the log's size then: a line that ends
within that size, but not within the one before, was printed between the two.
"""

import os
import struct
import time

MARK = struct.Struct("<dQ")
EVERY_S = 0.25
MOST = 1 << 16  # marks, 1 MiB: then every second one goes, and new ones come half as often
AT_ONCE = 2000  # of an answer


class Marks:
    """Written while the job runs; a disk that is full costs the marks, never the job."""

    def __init__(self, folder):
        self.folder = folder
        self.log, self.path = (os.path.join(folder, name) for name in ("log", "times"))
        self.size, self.count, self.every_s, self.next_at = 0, 0, EVERY_S, 0.0

    def tick(self, now, final=False):
        """Mark the time if the log has grown."""
        if now < self.next_at and not final:
            return
        try:
            size = os.stat(self.log).st_size
            if size != self.size:
                with open(self.path, "ab") as file:
                    file.write(MARK.pack(time.time(), size))
                self.size, self.count, self.next_at = size, self.count + 1, now + self.every_s
            if self.count >= MOST:
                self.thin()
        except OSError:
            return

    def thin(self):
        with open(self.path, "rb") as file:
            data = file.read()
        marks = [data[at : at + MARK.size] for at in range(0, len(data) - MARK.size + 1, MARK.size)][1::2]
        part = self.path + ".part"
        with open(part, "wb") as file:
            file.write(b"".join(marks))
        os.rename(part, self.path)
        self.count, self.every_s = len(marks), self.every_s * 2


def marks_between(folder, start, end):
    """Return [size, time] of the marks behind byte `start`, up to the first one that covers byte `end`."""
    found = []
    try:
        with open(os.path.join(folder, "times"), "rb") as file:
            count = os.fstat(file.fileno()).st_size // MARK.size

            def mark(index):
                file.seek(index * MARK.size)
                at, size = MARK.unpack(file.read(MARK.size))
                return size, at

            low, high = 0, count
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if mark(middle)[0] <= start else (low, middle)
            while low < count and len(found) < AT_ONCE and (not found or found[-1][0] < end):
                found.append(mark(low))
                low += 1
    except (OSError, struct.error):
        return found  # no marks, or they were thinned out meanwhile: lines without a time
    return found
