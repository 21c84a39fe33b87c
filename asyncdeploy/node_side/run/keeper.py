"""Above each supervisor stands a keeper: it waits, and takes the supervisor's place when that has died.

Runs on a node, loaded by jobs.py: Python >= 3.8, standard library only.

The kernel gives an orphan to the nearest reaper above it: to the supervisor while that lives, then to the keeper,
whatever the orphan has done to its sessions or its environment. So the keeper hears how the leader ends, and ends what
that leaves behind. It is a fork of the same image and does nothing until then; what the supervisor knows of the job it
is told through a pipe, a line a change. A rank of a launch has a guard as well, beside both, which acts when both are
gone. Of the three any two may be killed at once: the third one keeps the promise.
"""

import _signal as signal
import json
import os
import select
import time

from asyncdeploy.node_side import files, job_folder as folders, processes
from asyncdeploy.node_side.run import guard
from asyncdeploy.node_side.run.process_tree import KILL_WAIT_S, TICK_S, Wake
from asyncdeploy.node_side.run.supervisor import Supervisor, tell

START_S = 30.0  # for a supervisor to say that the job runs: it writes to a disk that may be slow
UNDO_S = KILL_WAIT_S + 2.0  # for a keeper to end what a supervisor has begun that died over its start
AGAIN_S = 1.0  # until a guard is posted again, where there was no room for a process
DEAF_TO = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def launch(folder, spec, env, stdin, step):
    """Fork a keeper and its supervisor, which outlive us; return why the job could not be started, or None."""
    out, into = os.pipe()
    group = os.fork()
    if group == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.close(out)
                Keeper(folder, spec, env, step).keep(stdin, into)
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(group, 0)
    try:
        said = heard(out)
    finally:
        os.close(out)
    if said == b"ok":
        return None
    if said:  # it has said why not, and ends
        return said.decode("utf-8", "replace")
    if said is not None:
        await_end(folder, group)
    try:
        # They may hang on a slow disk: what is reported as not started must not be so later.
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass  # they have died
    return "its supervisor died, or had not started it within %d s" % START_S


def heard(out):
    """Return what a supervisor says of its start, b"" if it died without a word, None if nothing came in time."""
    said = b""
    deadline = time.monotonic() + START_S
    poll = select.poll()
    poll.register(out, select.POLLIN)
    while time.monotonic() < deadline:
        if poll.poll(1000):
            data = os.read(out, 4096)
            if not data:
                return said
            said += data
    return said or None


def await_end(folder, group):
    """Let a keeper end what its supervisor has begun: to nobody else comes a daemon that hides."""
    try:
        folders.write_file(folder, "stop", b'{"grace_s": 0}')
    except OSError:
        pass  # who finds that the job could be found goes on with it, until we kill him
    deadline = time.monotonic() + UNDO_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(TICK_S)


class Keeper:
    """Lives as long as its supervisor, or as the job where that has died."""

    def __init__(self, folder, spec, env, step):
        self.folder, self.job_id = folder, spec["id"]
        self.supervisor = Supervisor(folder, spec, env, step)
        self.prctl = processes.find_prctl()
        self.said, self.rest = {}, b""
        self.guard = None  # of a rank: its pid
        self.gone = self.held = None  # a pipe by which it learns that supervisor and keeper are gone

    def keep(self, stdin, into):
        """Start the supervisor, wait for its end, and go on in its place if that was no good one."""
        try:
            processes.let_go_of_all_but({stdin, into})
            processes.set_name(self.prctl, b"adeploy-keep")
            for number in DEAF_TO:
                signal.signal(number, signal.SIG_IGN)
            wake = Wake()
            if self.supervisor.plan:
                self.gone, self.held = os.pipe()
                self.post_guard()
            reaps = processes.reap_orphans(self.prctl, True)
            child, word = self.fork_supervisor(stdin, into)
        except OSError as error:
            tell(into, os.strerror(error.errno).encode())
            return
        os.close(stdin)
        os.close(into)  # whoever waits there learns of the supervisor's death
        self.watch(word, wake)
        ended_well = os.waitpid(child, 0)[1] == 0
        os.close(word)
        wake.close()
        if not ended_well and reaps:
            self.take_over()

    def take_over(self):
        """Go on in the supervisor's place."""
        self.send_guard_away()
        files.insist(self.supervisor.get_ready)
        if files.insist(self.supervisor.take_over, self.said):
            self.supervisor.see_it_through()

    def fork_supervisor(self, stdin, into):
        """Return its pid, and where it says what it knows; that ends when it does."""
        word, say = os.pipe()
        keeper = os.getpid()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self.supervisor.supervise(stdin, into, keeper, say, self.held)
                code = 0
            finally:
                os._exit(code)
        os.close(say)
        return child, word

    def post_guard(self):
        plan = json.loads(self.supervisor.plan)
        self.guard = guard.post(self.gone, self.folder, self.job_id, plan["silence_s"], plan["grace_s"])

    def look_after_guard(self):
        """Replace a guard that has died."""
        if self.guard is not None and os.waitpid(self.guard, os.WNOHANG)[0]:
            self.guard = None
        if self.held is not None and self.guard is None:
            try:
                self.post_guard()
            except OSError:
                return  # there is no room for a process: tried again in a moment

    def send_guard_away(self):
        """Have a guard that is the system's child: of our own ones we wait for the end now, and end them."""
        if self.guard is None:
            return
        os.kill(self.guard, signal.SIGKILL)
        os.waitpid(self.guard, 0)
        processes.reap_orphans(self.prctl, False)
        try:
            child = os.fork()
            if child == 0:
                try:
                    self.post_guard()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
        except OSError:
            pass  # there is no room for a process: we are still here
        finally:
            processes.reap_orphans(self.prctl, True)

    def watch(self, word, wake):
        """Hear what the supervisor says until it ends, and look after the guard meanwhile."""
        poll = select.poll()
        poll.register(word, select.POLLIN)
        poll.register(wake.fd, select.POLLIN)
        while True:
            lacks_guard = self.held is not None and self.guard is None
            found = [fd for fd, _ in poll.poll(AGAIN_S * 1000 if lacks_guard else None)]
            if wake.fd in found:
                wake.hear()
            if word in found and not self.hear(os.read(word, 1 << 16)):
                return
            self.look_after_guard()

    def hear(self, data):
        """Take note of what was said; whether anything was."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.said.update(json.loads(line))
        return bool(data)
