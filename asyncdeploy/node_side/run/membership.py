"""A supervisor's part in its launch: the other ranks' supervisors hear how its job ended, and say when it must end.

Runs on a node, used by supervisor.py: Python >= 3.8, standard library only.
"""

import select
import time

from asyncdeploy.node_side.launch.stuck import Stuck
from asyncdeploy.node_side.run.process_tree import TICK_S

TAKEN = "the port of its launch's link is taken: %d"  # launch/gang/start.py knows these words


class Membership:
    """The link to the others, made as soon as that can be; while it cannot be, a rank goes on alone.

    Attributes: told_at and because (when and why the others wanted our end, None and "" while they do not); meeting
    (whether our program came to where the ranks meet; None of a launch of one).
    """

    def __init__(self, plan):
        self.plan = plan
        self.side, self.alone = None, False
        self.told_at, self.because = None, ""
        self.meeting = None
        self.stuck = Stuck()
        self.said = {}  # by a supervisor before us

    def take_place(self):
        """Take our side before anything starts; return why that cannot be, or None."""
        self.join()
        if self.side is None and not self.alone:
            return TAKEN % self.plan["port"]
        return None

    def join(self):
        """Take our side of the link, where there are others and it is not taken yet."""
        if self.side is not None or self.alone:
            return
        from asyncdeploy.node_side.launch import gang  # its imports take 20 ms, which other jobs need not pay

        try:
            self.side = gang.join(self.plan)
            self.alone = self.side is None
            if not self.alone:
                self.side.recall(self.said)
            self.meeting = None if self.alone else gang.meeting_of(self.plan)
        except OSError:
            return  # its port may be free the next time
        except (ValueError, KeyError):
            self.alone = True  # a plan that nobody can follow must not cost a job its supervisor

    def register(self, poll):
        """Have a poll wake us when the others say something."""
        if self.side is not None:
            self.side.register(poll)

    def patience(self):
        """Return for how long it may be left alone, in seconds."""
        return self.side.TICK_S if self.side is not None else float("inf")

    def tick(self, tree, timed_out):
        """Tell the others of our job's end, and end it where they say so."""
        self.join()
        if self.side is None:
            return
        if tree.status is not None and self.side.end is None:
            self.side.own_end(self.kind_of_end(tree, timed_out), words_of_end(tree, timed_out))
        elif self.stuck.found and self.side.end is None and not tree.stopped:
            # Its leader waits for that, and would not end by itself: the others need not wait with it.
            self.side.own_end("failed", "has a process that KILL does not end: %s" % self.stuck.found)
            self.told_at, self.because = time.time(), self.side.end["because"]
            tree.stop(float(self.plan["grace_s"]))
        self.side.tick(time.monotonic())
        if tree.status is None:
            self.meeting.tick(time.monotonic())
        if self.side.because and not tree.stopped and tree.status is None:
            self.told_at, self.because = time.time(), self.side.because
            self.meeting.look()
            tree.stop(float(self.plan["grace_s"]))

    def look(self, tree):
        """Look for what takes its time; beside the loop, which must not."""
        if tree.status is None and not tree.stopped and self.side is not None:
            self.stuck.tick(tree.leader, time.monotonic())

    def kind_of_end(self, tree, timed_out):
        """Return what the others must make of our end, see gang.own_end."""
        if timed_out:
            return "failed"
        if self.told_at is not None:
            return "told"
        if tree.stopped:
            return "stopped"
        return "ok" if tree.exit() == (0, None) else "failed"

    def known(self):
        """Return what somebody must know who goes on in our place, for JSON."""
        own = {"told_at": self.told_at, "because": self.because}
        return own if self.side is None else {**own, **self.side.known()}

    def recall(self, said):
        """Know what another one knew who had our place."""
        self.said, self.told_at, self.because = said, said["told_at"], said["because"]

    def linger(self, tree, timed_out, is_dismissed):
        """Stay for the others: node rank 0 until all have ended, the rest until node rank 0 has heard of them.

        Of a launch that did not come to be nobody comes any more, and whoever takes it back says so.
        """
        self.tick(tree, timed_out)
        if self.side is None:
            return
        deadline = time.monotonic() + self.side.silence  # who waits to be heard does not wait for ever
        while self.side.busy() and not is_dismissed() and (self.side.is_hub or time.monotonic() < deadline):
            poll = select.poll()
            self.side.register(poll)
            poll.poll(TICK_S * 1000)
            self.side.tick(time.monotonic())
        self.side.close()


def words_of_end(tree, timed_out):
    if timed_out:
        return "ran longer than its timeout_s"
    code, number = tree.exit()
    return "exited %d" % code if number is None else "died of signal %d" % number
