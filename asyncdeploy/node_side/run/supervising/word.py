"""What a supervisor says to its keeper: all that somebody must know who goes on in its place, as it changes.

Runs on a node, used by supervisor.py: Python >= 3.8, standard library only.
"""

import json
import os


class Word:
    """A pipe; each thing that changed is a line of JSON, shorter than what the kernel writes in one piece."""

    def __init__(self, fd):
        self.fd = fd
        self.said = {}
        if fd is not None:
            os.set_blocking(fd, False)  # a keeper that stands still must not hold us up

    def say(self, known):
        """Say what of this was not said yet."""
        new = {name: value for name, value in known.items() if name not in self.said or self.said[name] != value}
        for name, value in new.items():
            if not self.write(json.dumps({name: value}).encode() + b"\n"):
                return
            self.said[name] = value

    def write(self, line):
        if self.fd is None:
            return False
        try:
            os.write(self.fd, line)
        except BlockingIOError:
            return False  # said the next time
        except OSError:
            self.fd = None  # the keeper has died; the guard is still there
            return False
        return True
