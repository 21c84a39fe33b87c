"""Everything that one command started, attached or detached: found, reaped, and ended without leaving any of it.

Runs on a node, loaded by run.py, supervisor.py and guard.py: Python >= 3.8, standard library only, no heavy import.
"""

import _signal as signal
import os
import time

from asyncdeploy.node_side import files, proc, processes
from asyncdeploy.node_side.input import NoRoom

TERM, KILL = signal.SIGTERM, signal.SIGKILL
LEFTOVER_GRACE_S = 2.0  # for what the leader left behind when it ended by itself
AFTER_S = 2.0  # for the shells around the program that was named, once that has ended
KILL_WAIT_S = 3.0  # a process that KILL has not ended by then hangs in the kernel: it is named
ON_END_S = 10.0  # for the line at a stopped run's end: docker takes a few seconds to end a container
LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT  # of a waitid that leaves what it finds as it is
NO_ROOM = (OSError, MemoryError)  # what looking into /proc raises where we have no descriptor or memory left
TICK_S = 0.05  # between two looks at what is being ended


class ProcessTree:
    """The leader of a run and all that came of it; its owner calls ``reap`` and ``escalate`` whenever it wakes.

    Nothing escapes: this process makes itself the reaper of all its descendants, so that a double fork, a session of
    its own or a changed title does not hide a process; where the kernel does not offer that, sessions and a marker in
    the environment serve.

    Attributes: leader (its pid, None before the start), status (the leader's, as waitpid gives it, None while it
    lives), ended_at (when that was seen), children_left (whether anything may live below us), stopped (somebody wanted
    its end), leftovers (what the leader left running when it ended by itself, as (pid, name)).
    """

    def __init__(self, marker, prctl, kill_wait_s=KILL_WAIT_S):
        self.marker = marker
        self.prctl = prctl
        self.reaper = processes.reap_orphans(prctl, True)
        self.ending = Ending(kill_wait_s)
        self.leader = self.status = self.ended_at = None
        self.children_left = True
        self.stopped = False
        self.leftovers = []
        self.grace = LEFTOVER_GRACE_S
        self.on_end = lambda: None  # called when the leader's end is seen, before the kernel forgets it

    def start(self, line, cwd, environ, fds):
        """Start the leader in a session of its own, with these as its 0, 1 and 2; return why it could not be, or None.

        We are then in its working folder: the caller leaves it.
        """
        folder = files.expand(cwd or b"~", environ.get(b"HOME", b"/"))
        if not cwd and not os.path.exists(folder):
            folder = b"/"  # as sshd does for an account whose home is missing
        try:
            os.chdir(folder)
        except OSError as error:
            return "%s (working folder %s)" % (os.strerror(error.errno), os.fsdecode(folder))
        try:
            self.leader = processes.start_shell(line, environ, fds)
        except OSError as error:
            return os.strerror(error.errno)
        except NoRoom as error:
            return str(error)
        return None

    def stop(self, grace):
        """End it all, with a grace in seconds from TERM to KILL; who asks again may shorten it."""
        if self.stopped:
            self.grace = self.ending.shortened(self.grace, grace)
        else:
            self.stopped = True
            self.grace = grace
            self.ending.begin_again()  # what the leader left behind may be under way to its end with another grace

    def reap(self):
        """Take note of everything that has ended below us."""
        try:
            while True:
                found = os.waitid(os.P_ALL, 0, LOOK)
                if found is None:
                    return
                if found.si_pid == self.leader:
                    self.status, self.ended_at = wait_status(found), time.time()
                    self.on_end()
                os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            # We have no child. Where orphans come to us that is the end of all; else they may live as somebody else's.
            self.children_left = not self.reaper and bool(self.living())

    def escalate(self):
        """TERM first, to the program that was named; after the grace, or its end, KILL to everything that is left."""
        if not self.has_ended() and (self.stopped or self.status is not None):
            signalled = self.ending.step(self.living, self.leader, self.status is None, self.grace)
            if not self.stopped and not self.leftovers:
                self.leftovers = signalled

    def is_ours(self):
        """Whether the leader's end is known, or for us to hear."""
        try:
            if self.status is None:
                os.waitid(os.P_PID, self.leader, LOOK)
        except ChildProcessError:
            return False
        return True

    def has_ended(self):
        """Whether the leader has ended and nothing of it lives."""
        return self.status is not None and not self.children_left

    def hangs(self):
        """Whether something of it lives that KILL did not end: nobody waits for that any longer."""
        return not self.has_ended() and self.ending.is_over()

    def close(self):
        """Let orphans go their own way again."""
        processes.reap_orphans(self.prctl, False)

    def living(self):
        """Return (pid, name) of all of it that lives."""
        from asyncdeploy.node_side import family  # most runs end by themselves and leave nothing to look for

        return family.members([os.getpid()], self.leader, self.marker)

    def end(self):
        """Stay until it has ended, or hangs."""
        while not self.has_ended() and not self.hangs():
            try:
                self.reap()
                self.escalate()
            except NO_ROOM:
                pass  # a moment later there may be some
            time.sleep(TICK_S)

    def survivors(self):
        """Return (pid, name) of what lives after the end; who was not stopped and left nobody is not looked for.

        Where something lives, as the kernel tells us, but cannot be seen, that is said under the number 0.
        """
        why, found = "it is hidden from us", []
        try:
            if self.stopped or self.children_left:
                found = self.living()
        except OSError as error:
            why = files.why(error)
        if not found and self.children_left:
            found = [(0, why.encode("utf-8", "replace"))]
        return found

    def known(self):
        """Return what somebody must know who goes on in our place, for JSON."""
        ending = self.ending
        own = {name: getattr(self, name) for name in ("leader", "status", "ended_at", "stopped", "grace")}
        return {**own, **{name: getattr(ending, name) for name in ("termed_at", "killed_at", "is_told", "named")}}

    def recall(self, said):
        """Know what another one knew who had our place."""
        for name in ("leader", "status", "ended_at", "stopped", "grace"):
            setattr(self, name, said[name])
        for name in ("termed_at", "killed_at", "is_told", "named"):
            setattr(self.ending, name, said[name])

    def exit(self):
        """Return the leader's (exit status, signal): one of them is None, both of a leader that hangs in the kernel."""
        if self.status is None:
            return None, None
        if os.WIFEXITED(self.status):
            return os.WEXITSTATUS(self.status), None
        return None, os.WTERMSIG(self.status)


def wait_status(found):
    """Return what waitpid says where waitid found this."""
    return found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status


class Ending:
    """How far the end of some processes has come: TERM, after a grace KILL, and then a bounded wait."""

    def __init__(self, kill_wait_s=KILL_WAIT_S):
        self.kill_wait_s = kill_wait_s
        self.termed_at = self.killed_at = None
        self.is_told = False  # whoever TERM is for
        self.named = None  # whose end is awaited, as (pid, start); None where TERM went to all
        self.named_ended_at = None

    def begin_again(self):
        """Count a new grace from now; who has had his TERM gets no second one."""
        if self.termed_at is not None:
            self.termed_at = time.monotonic()

    def shortened(self, grace, again):
        """Return the grace that ends when the shorter of two does: one that runs, and one that begins now."""
        return grace if self.termed_at is None else min(grace, time.monotonic() - self.termed_at + again)

    def step(self, living, leader, leads, grace):
        """Signal what ``living()`` returns, if it is time, and return that.

        It walks /proc, so between signals it is not asked. While the leader lives (``leads``) TERM is for the program
        that was named, and its helpers stay until it has ended; what a leader leaves behind gets TERM itself.
        """
        now = time.monotonic()
        if self.termed_at is None:
            self.termed_at = now
        try:
            return self.signal(living, leader, leads, grace, now)
        except OSError as error:
            if now - self.termed_at >= grace:
                if leads:
                    os.killpg(leader, KILL)  # whom we know without a look
                if error.errno not in files.SHORT and self.killed_at is None:
                    self.killed_at = now  # we shall not see better later
            raise

    def signal(self, living, leader, leads, grace, now):
        if not self.is_told:
            if not leads:
                found = signal_all(living(), TERM, leader)
                self.is_told = True
                return found
            from asyncdeploy.node_side import named_programs

            self.named = named_programs.tell(leader)
            self.is_told = True
        if now - self.termed_at >= grace or self.is_done(leads, now):
            found = living()
            self.killed_at = self.killed_at or now
            return signal_all(found, KILL, leader)  # at each step: something may have been forked meanwhile
        return []

    def is_done(self, leads, now):
        """Whether the program that was named has ended, and the shells around it have had their time to."""
        if self.named is None:
            return False
        if not leads:
            return True
        if self.named_ended_at is None and not any(proc.is_same(*each) for each in self.named):
            self.named_ended_at = now
        return self.named_ended_at is not None and now - self.named_ended_at >= AFTER_S

    def is_over(self):
        """Whether KILL has had its time."""
        return self.killed_at is not None and time.monotonic() - self.killed_at > self.kill_wait_s


def signal_all(found, number, leader):
    """Signal each of these processes and return them."""
    from asyncdeploy.node_side import family

    family.signal_each(found, number, leader)
    return found


def run_on_end(line, environ):
    """Run the line that ends what lives elsewhere (a container); bounded, its output is dropped."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        pid = processes.start_shell(line, environ, [null, null, null])
    except (OSError, NoRoom):
        return
    finally:
        os.close(null)
    if not waited(pid, ON_END_S):
        os.killpg(pid, KILL)  # it leads a session of its own; what it started has hung as long
        waited(pid, KILL_WAIT_S)


def waited(pid, seconds):
    """Wait for a child for so long; whether it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True  # somebody else has waited for it
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK_S)


class Wake:
    """A descriptor that a poll sees when a signal came: a child's end need not wait for the next look."""

    def __init__(self):
        self.fd, self.into = os.pipe()
        for fd in (self.fd, self.into):
            os.set_blocking(fd, False)
        self.before = signal.set_wakeup_fd(self.into)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # one that is ignored or left alone wakes nobody

    def hear(self):
        """Take what came; all that it says is that something did."""
        os.read(self.fd, 4096)

    def close(self):
        signal.set_wakeup_fd(self.before)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self.into)
