"""Run one command for the client and hold it on a leash: it ends when the client asks, goes away or falls silent.

Runs on a node inside the worker: Python >= 3.8, standard library only, and no heavy import (``signal`` costs 4 ms).

Frames in: I input, E end of input (the command starts then), K stop: payload is the grace in seconds. Frames out: O
stdout, E stderr. Returned: status, signal number, survivors, separated by NUL; or "!" and why it could not be
started.

Nothing escapes: the worker makes itself the reaper of all its descendants, so that a double fork, a session of its
own or a changed title does not hide a process; where the kernel does not offer that, sessions and a marker in the
environment serve.
"""

import _signal as signal
import os
import select
import time

from asyncdeploy.node_side import files, processes

TERM, KILL, CHLD = signal.SIGTERM, signal.SIGKILL, signal.SIGCHLD
LEFTOVER_GRACE_S = 2.0  # for what the leader left behind when it ended by itself
KILL_WAIT_S = 2.0  # a process that KILL has not ended by then hangs in the kernel: it is named
OUT_LIMIT = 1 << 18  # unsent output; above it the command has to wait
TICK_S = 0.05


def main(worker, args):
    marker, grace, cwd, on_end, line, *env = args.split(b"\0")
    stdin = processes.take_input(worker)
    if not hasattr(worker, "prctl"):
        worker.prctl = processes.find_prctl()
    environ = dict(os.environb)
    for item in env:
        name, _, value = item.partition(b"=")
        environ[name] = value
    environ[b"ASYNCDEPLOY_RUN"] = marker
    environ[b"SPT_NOENV"] = b"1"  # setproctitle would wipe the marker otherwise
    run = Run(worker, float(grace), marker, on_end, environ)
    try:
        failure = run.start(line, cwd, stdin)
        if failure:
            return b"!\0" + failure
        return run.watch()
    finally:
        run.tidy()


class Run:
    """One command: its leader, its pipes, and how far it has been ended."""

    def __init__(self, worker, grace, marker, on_end, environ):
        self.worker = worker
        self.grace = grace
        self.marker = b"ASYNCDEPLOY_RUN=" + marker
        self.on_end = on_end
        self.environ = environ
        self.reaper = processes.reap_orphans(worker.prctl, True)
        self.leader = None
        self.status = None
        self.children_left = True
        self.pipes = {}  # descriptor -> frame kind
        self.out = bytearray()
        self.gone = False  # the client is
        self.stopped = False  # somebody wanted its end
        self.termed_at = self.killed_at = self.quiet_at = None
        self.wake = os.pipe()
        for fd in self.wake:
            os.set_blocking(fd, False)
        self.old_wakeup = signal.set_wakeup_fd(self.wake[1])
        signal.signal(CHLD, lambda *_: None)

    # --- start --------------------------------------------------------------

    def start(self, line, cwd, stdin):
        """Start the leader in a session of its own; return why not, or None."""
        fds = [stdin]
        home = self.environ.get(b"HOME", b"/")
        try:
            cwd = files.expand(cwd or b"~", home)
            os.chdir(cwd)
            out, err = os.pipe(), os.pipe()
            fds += [out[1], err[1]]
            self.pipes = {out[0]: b"O", err[0]: b"E"}
            self.leader = processes.start_shell(line, self.environ, stdin, out[1], err[1])
        except OSError as error:
            where = b" (working folder " + cwd + b")" if error.filename == cwd else b""
            return os.strerror(error.errno).encode() + where
        finally:
            for fd in fds:
                os.close(fd)
            try:
                os.chdir(home)  # nobody's folder is held by us
            except OSError:
                os.chdir("/")
        for fd in self.pipes:
            os.set_blocking(fd, False)
        return None

    # --- watch ---------------------------------------------------------------

    def watch(self):
        self.hear()  # its end may have been asked for before it began, in one breath with its input
        self.reap()
        while not self.finished():
            self.wait()
            self.reap()
            self.escalate()
        self.read_rest()
        if self.stopped and self.on_end:
            self.run_on_end()
        if self.gone:
            raise SystemExit("the client went away; its run was ended")
        survivors = self.living() if self.stopped or self.children_left else []
        self.flush(True)
        code = number = -1  # KILL did not end the leader: it hangs in the kernel, and nobody knows its end
        if self.status is not None:
            code, number = (
                (os.WEXITSTATUS(self.status), 0) if os.WIFEXITED(self.status) else (-1, os.WTERMSIG(self.status))
            )
        return b"\0".join([b"%d" % code, b"%d" % number] + [b"%d %s" % item for item in survivors])

    def finished(self):
        if self.status is None or self.children_left:
            return bool(self.killed_at and time.monotonic() - self.killed_at > KILL_WAIT_S)
        if not self.pipes:
            return True
        # The pipes are held by a process that is none of ours any more: give its last words a moment.
        return bool(self.quiet_at and time.monotonic() - self.quiet_at > 0.2)

    def wait(self):
        poll = select.poll()
        poll.register(self.wake[0], select.POLLIN)
        if not self.gone:
            poll.register(0, select.POLLIN)
        if self.out and not self.gone:
            poll.register(1, select.POLLOUT)
        if self.gone or len(self.out) < OUT_LIMIT:
            for fd in self.pipes:
                poll.register(fd, select.POLLIN)
        patient = self.status is None and not self.stopped
        for fd, _ in poll.poll((5 if patient else TICK_S) * 1000):
            if fd == self.wake[0]:
                os.read(fd, 4096)
            elif fd in self.pipes:
                self.read_pipe(fd)
        self.hear()
        self.flush(False)

    def hear(self):
        """Obey the client; its absence is an order as well."""
        if self.gone:
            return
        try:
            self.worker.fill(0)
            self.worker.check_life()
            frame = self.worker.take()
            while frame is not None:
                if frame[0] == b"K":
                    self.stop(float(frame[1] or self.grace))
                frame = self.worker.take()
        except SystemExit:
            self.leave()

    def leave(self):
        self.gone = True
        self.out.clear()
        self.stop(self.grace)

    def read_pipe(self, fd):
        try:
            data = os.read(fd, 1 << 17)
        except BlockingIOError:
            return
        if not data:
            os.close(fd)
            del self.pipes[fd]
        elif not self.gone:
            self.out += self.pipes[fd] + len(data).to_bytes(4, "big") + data

    def read_rest(self):
        for fd in list(self.pipes):
            self.read_pipe(fd)

    def flush(self, all_of_it):
        """Send what the line takes now, or all."""
        if self.gone or not self.out:
            return
        try:
            if all_of_it:
                self.worker.write(self.out)
                self.out.clear()
                return
            with memoryview(self.out) as view:
                count = os.write(1, view)
            del self.out[:count]
        except BlockingIOError:
            return
        except (OSError, SystemExit):
            self.leave()

    # --- the end -------------------------------------------------------------

    def reap(self):
        """Take note of everything that has ended below us."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.leader:
                    self.status = status
        except ChildProcessError:
            self.children_left = bool(not self.reaper and self.status is not None and self.living())
            if not self.children_left and self.quiet_at is None:
                self.quiet_at = time.monotonic()

    def stop(self, grace):
        if not self.stopped:
            self.stopped = True
            self.grace = grace
            self.termed_at = None

    def escalate(self):
        """TERM first, after the grace KILL, to everything of the run, until nothing is left."""
        ended = self.status is not None
        if not (self.stopped or ended) or (ended and not self.children_left):
            return
        now = time.monotonic()
        grace = self.grace if self.stopped else min(self.grace, LEFTOVER_GRACE_S)
        if self.termed_at is None:
            self.termed_at = now
            self.signal_all(TERM)
        elif now - self.termed_at >= grace:
            if self.killed_at is None:
                self.killed_at = now
            self.signal_all(KILL)

    def signal_all(self, number):
        processes.signal_each(self.living(), number, self.leader)

    def living(self):
        return processes.family([os.getpid()], self.leader, self.marker)

    def run_on_end(self):
        """Run the line that ends what lives elsewhere (a container); bounded, its output is dropped."""
        null = os.open(os.devnull, os.O_RDWR)
        try:
            pid = processes.start_shell(self.on_end, self.environ, null, null, null)
        except OSError:
            return
        finally:
            os.close(null)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(TICK_S)
        os.kill(pid, KILL)
        os.waitpid(pid, 0)

    def tidy(self):
        processes.reap_orphans(self.worker.prctl, False)
        signal.set_wakeup_fd(self.old_wakeup)
        signal.signal(CHLD, signal.SIG_DFL)
        for fd in list(self.pipes) + list(self.wake):
            os.close(fd)
