"""Do what may have to wait for a disk beside a loop that must not wait: one thing at a time.

Runs on a node, used by supervisor.py: Python >= 3.8, standard library only. threading costs what other jobs need not
pay; `_thread` is all that is wanted of it.
"""

import _thread


class Aside:
    """A thread for each thing, as long as the one before has ended. Attributes: busy."""

    def __init__(self):
        self.busy = False

    def do(self, work, *args):
        """Begin something; nothing while another one is under way, which the caller may try again."""
        if self.busy:
            return
        self.busy = True
        try:
            _thread.start_new_thread(self.run, (work, args))
        except RuntimeError:  # no room for a thread: the disk is probably well
            self.run(work, args)

    def run(self, work, args):
        try:
            work(*args)
        finally:
            self.busy = False
