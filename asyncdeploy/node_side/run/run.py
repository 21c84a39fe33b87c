"""Run one command for the client and hold it on a leash: it ends when the client asks, goes away or falls silent.

Runs on a node inside the worker: Python >= 3.8, standard library only, and no heavy import (``signal`` costs 4 ms).

The worker may be killed (by a kernel that is out of memory, by hand). So before its first run it steps below a keeper,
its own process so far: to that one comes all that a killed worker leaves, however it hides, and the keeper ends it.

Frames in: I input, E end of input (the command starts then), K stop: payload is the grace in seconds. Frames out: O
stdout, E stderr. Returned: status, signal number, survivors, then, behind an empty word, what it left running and was
ended with it, and of status 127, behind another, its PATH, separated by NUL; or "!" and why it could not be started.
"""

import _signal as signal
import os
import select
import time

from asyncdeploy.node_side import proc, processes
from asyncdeploy.node_side.input import NoRoom, take_input
from asyncdeploy.node_side.run.outflow import Outflow
from asyncdeploy.node_side.run.process_tree import NO_ROOM, TICK_S, ProcessTree, Wake, run_on_end

KILL_WAIT_S = 2.0  # with the client's grace it stays below the 5 s that a cancelled call may take
MOST_NAMED = 50  # of what it left running
LOOK_S = 5.0  # while nothing happens; a signal, the client or output wakes us
MOST_NOTED = 1 << 16  # what a pipe holds
PIPEFULS = 4  # reads that empty a pipe: of an account's widest, 1 MiB, each takes a quarter
LAST_WORDS_S = 0.2  # for what is left in pipes that a process holds which is none of ours any more


def main(worker, args):
    marker, grace, cwd, on_end, line, *env = args.split(b"\0")
    try:
        if not hasattr(worker, "kept"):
            worker.prctl = processes.find_prctl()
            worker.kept = Kept(worker.prctl, worker.in_step)
        stdin = take_input(worker)
    except NoRoom as error:
        return b"!\0" + os.fsencode(str(error))
    except OSError as error:  # no process or descriptor is left
        return b"!\0" + os.fsencode(os.strerror(error.errno))
    run = Run(worker, float(grace), marker, on_end, processes.marked_environ(env, marker))
    try:
        worker.kept.note(marker, grace, on_end, *env)
        failure = run.start(line, cwd, stdin)
        if failure:
            return b"!\0" + os.fsencode(failure)
        worker.kept.note_leader(run.tree.leader)
        return run.watch()
    finally:
        run.tidy()
        worker.kept.forget()


class Kept:
    """We as our keeper sees us: what runs is written down for it, in a pipe that it reads when we have died."""

    def __init__(self, prctl, in_step):
        self.out, self.into = os.pipe()
        for fd in (self.out, self.into):
            os.set_blocking(fd, False)
        self.keeper = os.getpid()
        processes.reap_orphans(prctl, True)
        try:
            worker = os.fork()
        except OSError:
            os.close(self.out)
            os.close(self.into)
            raise
        if worker:
            if in_step:  # Slurm sends TERM to all of its step, which must not end before the worker has
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            keep(worker, self.out, prctl)
        if prctl is not None:
            prctl(1, signal.SIGCHLD, 0, 0, 0)  # PR_SET_PDEATHSIG: its end wakes us as a child's would

    def note(self, *words):
        """Say what is about to run; what the pipe does not hold is the line at its end, which is left out then.

        An account that has thousands of pipes is given short ones; half of that line's variables are worse than none.
        """
        text = b"\0".join((*words, b""))
        if len(text) > MOST_NOTED or os.write(self.into, text) < len(text):
            self.forget()
            os.write(self.into, b"\0".join((*words[:2], b"")))

    def note_leader(self, leader):
        """Say that it runs, by a last word."""
        try:
            os.write(self.into, b"%d" % leader)
        except BlockingIOError:
            return  # no room: TERM will go to all of it

    def forget(self):
        try:
            os.read(self.out, MOST_NOTED)
        except BlockingIOError:
            return  # nothing has run

    def check(self):
        """SystemExit if our keeper is gone: to the system it was the worker, and the channel is closed behind it."""
        if os.getppid() != self.keeper:
            raise SystemExit("the keeper was killed")


def keep(worker, noted, prctl):
    """Wait for the worker, our child, and end what it leaves behind; never returns."""
    try:
        for fd in (0, 1, 2):
            os.close(fd)  # the client hears of the worker's end at once
        processes.set_name(prctl, b"adeploy-keeper")
        while os.waitpid(-1, 0)[0] != worker:
            pass
        marker, grace, *rest, leader = os.read(noted, MOST_NOTED).split(b"\0")
        tree = ProcessTree(b"ASYNCDEPLOY_RUN=" + marker, prctl)
        tree.leader = int(leader) if leader else None  # nobody knows of one that had just begun
        row = proc.process(tree.leader) if leader else None
        # One that had ended, and was reaped, is no child that came to us.
        tree.status = None if row and row.parent == os.getpid() else 0
        tree.stop(float(grace))
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)  # 0, 1 and 2 again, of what is started now
        tree.end()
        if rest and rest[0]:
            run_on_end(rest[0], processes.marked_environ(rest[1:], marker))
    except BlockingIOError:
        pass  # nothing ran
    finally:
        os._exit(0)


class Run:
    """One command: its processes, its pipes and the client that it belongs to."""

    def __init__(self, worker, grace, marker, on_end, environ):
        self.worker = worker
        self.grace = grace  # where the client goes away and cannot say one
        self.on_end = on_end
        self.environ = environ
        self.tree = ProcessTree(b"ASYNCDEPLOY_RUN=" + marker, worker.prctl, KILL_WAIT_S)
        self.pipes = {}  # descriptor -> frame kind
        self.out = Outflow()
        self.gone = False  # the client is
        self.quiet_at = None  # since when nothing of it lives
        self.wake = Wake()

    # --- start --------------------------------------------------------------

    def start(self, line, cwd, stdin):
        """Start the leader; return why not, or None."""
        fds = [stdin]
        try:
            for kind in (b"O", b"E"):
                fd, other = os.pipe()
                self.pipes[fd] = kind
                fds.append(other)
            problem = self.tree.start(line, cwd, self.environ, fds)
        except OSError as error:
            problem = os.strerror(error.errno)
        finally:
            for fd in fds:
                os.close(fd)
            try:
                os.chdir(self.environ.get(b"HOME", b"/"))  # nobody's folder is held by us
            except OSError:
                os.chdir("/")
        for fd in self.pipes:
            os.set_blocking(fd, False)
        return problem

    # --- watch ---------------------------------------------------------------

    def watch(self):
        self.hear()  # its end may have been asked for before it began, in one breath with its input
        self.reap()
        while not self.finished():
            try:
                self.wait()
                self.reap()
                self.tree.escalate()
            except NO_ROOM:
                time.sleep(TICK_S)  # no descriptor or memory is left: a moment later there may be, and it is our run
        self.read_rest()
        if self.tree.stopped and self.on_end:
            run_on_end(self.on_end, self.environ)
        if self.gone:
            raise SystemExit("the client went away; its run was ended")
        self.worker.kept.check()
        survivors, leftovers = self.tree.survivors(), self.tree.leftovers
        self.flush(True)
        words = [b"%d %s" % item for item in survivors] + [b""] + [b"%d %s" % item for item in leftovers[:MOST_NAMED]]
        if self.tree.exit()[0] == 127:  # for the hint where to look
            words += [b"", self.environ.get(b"PATH", b"")]
        return b"\0".join([*self.exit(), *words])

    def reap(self):
        self.tree.reap()
        if self.tree.has_ended() and self.quiet_at is None:
            self.quiet_at = time.monotonic()

    def finished(self):
        if not self.tree.has_ended():
            return self.tree.hangs()
        if not self.pipes:
            return True
        # The pipes are held by a process that is none of ours any more: give its last words a moment.
        return time.monotonic() - self.quiet_at > LAST_WORDS_S

    def exit(self):
        """Return the exit status and the signal as the client reads them: -1 says that nobody knows."""
        code, number = self.tree.exit()
        return b"%d" % (-1 if code is None else code), b"%d" % (0 if code is not None else number or -1)

    def wait(self):
        poll = select.poll()
        poll.register(self.wake.fd, select.POLLIN)
        if not self.gone:
            poll.register(0, select.POLLIN)
        if not (self.gone or self.out.is_idle()):
            poll.register(1, select.POLLOUT)
        if self.gone or not self.out.is_full():
            for fd in self.pipes:
                poll.register(fd, select.POLLIN)
        patient = self.tree.status is None and not self.tree.stopped
        for fd, _ in poll.poll((LOOK_S if patient else TICK_S) * 1000):
            if fd == self.wake.fd:
                self.wake.hear()
            elif fd in self.pipes:
                self.read_pipe(fd)
        self.hear()
        self.flush(False)

    def hear(self):
        """Obey the client; its absence is an order as well."""
        if self.gone:
            return
        try:
            self.worker.kept.check()
            self.worker.fill(0)
            self.worker.check_life()
            self.out.add(self.worker.life())
            frame = self.worker.take()
            while frame is not None:
                if frame[0] == b"K":
                    self.tree.stop(float(frame[1] or self.grace))
                frame = self.worker.take()
        except SystemExit:
            self.leave()

    def leave(self):
        self.gone = True
        self.out.drop()
        self.tree.stop(self.grace)

    def read_pipe(self, fd):
        try:
            has_ended = self.out.take(fd, self.pipes[fd])
        except SystemExit:  # the client was promised what somebody else has read
            self.leave()
            return
        if has_ended:
            os.close(fd)
            del self.pipes[fd]
        if self.gone:
            self.out.drop()
        self.flush(False)  # before the next pipe's: what waits in a pipe takes the quick way

    def read_rest(self):
        for _ in range(PIPEFULS):
            for fd in list(self.pipes):
                self.read_pipe(fd)

    def flush(self, all_of_it):
        """Send what the channel takes now, or all."""
        if self.gone or self.out.is_idle():
            return
        try:
            if all_of_it:
                self.out.settle()
                self.worker.write(self.out.waiting)
                self.out.drop()
            else:
                self.out.flush()
        except (OSError, SystemExit):
            self.leave()

    def tidy(self):
        self.tree.close()
        self.wake.close()
        for fd in self.pipes:
            os.close(fd)
