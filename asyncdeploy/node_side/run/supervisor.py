"""The supervisor of a detached job: starts it, gathers its orphans, ends it when asked, writes down how it ended.

Runs on a node in a process of its own, forked by jobs.py: Python >= 3.8, standard library only.
"""

import _signal as signal
import json
import os
import select
import time

from asyncdeploy.node_side import files, proc, processes
from asyncdeploy.node_side import job_folder as folders
from asyncdeploy.node_side.run import guard, oom
from asyncdeploy.node_side.run import log_times as times
from asyncdeploy.node_side.run.job_state import marker_of
from asyncdeploy.node_side.run.process_tree import TICK_S, ProcessTree, Wake, run_on_end

TIMEOUT_GRACE_S = 5.0  # for a job that ran longer than it may
STOP_GRACE_S = 5.0  # of a stop that does not say its own
# How often the sessions of the job are noted, for the day the supervisor is killed itself: more often at its start.
FIRST_LOOK_S, LOOK_S = 0.2, 5.0
START_S = 30.0
EXIT_BYTES = 4096  # reserved at the start, so that a full disk does not lose the end


def launch_supervisor(folder, spec, env, stdin):
    """Fork a supervisor that outlives us; return why the job could not be started, or None."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.close(out)
                Supervisor(folder, spec, env).supervise(stdin, into)
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    said = b""
    try:
        deadline = time.monotonic() + START_S
        poll = select.poll()
        poll.register(out, select.POLLIN)
        while time.monotonic() < deadline:
            if poll.poll(1000):
                data = os.read(out, 4096)
                if not data:
                    break
                said += data
    finally:
        os.close(out)
    if said == b"ok":
        return None
    return said.decode("utf-8", "replace") or "its supervisor died before it started anything"


class Supervisor:
    """Lives as long as its job, in a session of its own, and writes down how it ended."""

    def __init__(self, folder, spec, env):
        self.folder = folder
        self.spec = spec
        marker = spec["id"].encode()
        self.environ = processes.marked_environ(env, marker)
        self.environ[b"ASYNCDEPLOY_JOB"] = marker
        self.plan = self.environ.pop(b"ASYNCDEPLOY_GANG", None)  # of its launch; not for what we start
        self.gpus = self.environ.pop(b"ASYNCDEPLOY_GPUS", None)  # what was in use before
        self.gang = self.marks = None
        self.told_at, self.because = None, ""
        self.deadline = None
        self.timed_out = False
        self.sessions = {}  # session -> its leader's start time, 0 where that is gone
        self.look_s, self.look_at = FIRST_LOOK_S, 0.0

    def supervise(self, stdin, into):
        """Start the job, say so, and stay until it ended. Never returns to its caller's code with an error."""
        try:
            guarded = set()
            if self.plan:
                wanted = json.loads(self.plan)
                guarded.add(guard.post(self.folder, self.spec["id"], wanted["silence_s"], wanted["grace_s"]))
            self.detach({stdin, into, *guarded})
            reason = self.begin(stdin)
        except Exception as error:
            reason = "%s: %s" % (type(error).__name__, error)
        os.write(into, reason.encode("utf-8", "replace") if reason else b"ok")
        os.close(into)
        os.close(stdin)
        if not reason:
            self.marks = times.Marks(self.folder) if self.plan else None
            self.join_gang()
            self.stay()
            self.linger()

    def detach(self, keep):
        """Let go of all that is the worker's: its line, or sshd would wait for us, and its locks."""
        processes.let_go_of_all_but(keep)
        self.wake = Wake()
        signal.signal(signal.SIGTERM, self.on_term)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        prctl = processes.find_prctl()
        self.tree = ProcessTree(marker_of(self.spec["id"]), prctl)
        processes.set_name(prctl, b"adeploy-job")

    def join_gang(self):
        """Link up with the other ranks' supervisors; while that cannot be, a rank goes on alone."""
        if not self.plan:
            return
        from asyncdeploy.node_side.launch import gang  # its imports take 20 ms, which other jobs need not pay

        try:
            self.gang = gang.join(self.plan)
        except (OSError, ValueError, KeyError):
            self.gang = None

    def watch_gang(self):
        """Tell the others of our end, and end where they say so."""
        if self.gang is None and self.plan:
            self.join_gang()  # its port may be free by now
        if self.gang is None:
            return
        if self.tree.status is not None and self.gang.end is None:
            kind = "told" if self.told_at is not None else "stopped" if self.tree.stopped else "failed"
            kind = "failed" if self.timed_out else "ok" if self.tree.status == 0 and not self.tree.stopped else kind
            self.gang.own_end(kind, self.how_it_ended())
        self.gang.tick(time.monotonic())
        if self.gang.because and not self.tree.stopped and self.tree.status is None:
            self.told_at, self.because = time.time(), self.gang.because
            self.tree.stop(float(self.gang.plan["grace_s"]))

    def how_it_ended(self):
        if self.timed_out:
            return "ran longer than its timeout_s"
        code, number = self.tree.exit()
        return "exited %d" % code if number is None else "died of signal %d" % number

    def linger(self):
        """Stay for the others: rank 0 until all have ended, the rest until rank 0 has heard of them."""
        deadline = None
        while self.gang is not None and self.gang.busy():
            poll = select.poll()
            self.gang.wait(poll)
            poll.poll(TICK_S * 1000)
            self.gang.tick(time.monotonic())
            if not self.gang.is_hub:  # who waits to be heard does not wait for ever
                deadline = deadline or time.monotonic() + self.gang.silence
                if time.monotonic() > deadline:
                    break
        if self.gang is not None:
            self.gang.close()

    def on_term(self, *_):
        request = folders.read_json(self.folder, "stop") or {}
        self.tree.stop(float(request.get("grace_s", STOP_GRACE_S)))

    def begin(self, stdin):
        """Start the leader and write down who it is; return why not, or None."""
        folders.write_file(self.folder, ".exit-room", b" " * EXIT_BYTES)
        log = os.open(os.path.join(self.folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.oom_kills = oom.oom_kills()
            self.spec["started_at"] = time.time()
            cwd = os.fsencode(self.spec["cwd"] or "")
            problem = self.tree.start(bytes_of(self.spec["line"]), cwd, self.environ, [stdin, log, log])
        finally:
            os.close(log)
            os.chdir("/")  # it must not keep a file system from being unmounted
        if problem:
            return problem
        if self.spec.get("timeout_s"):
            self.deadline = time.monotonic() + self.spec["timeout_s"]
        try:
            folders.write_file(self.folder, "spec.json", json.dumps(self.spec).encode())
            rows = [(pid, proc.process(pid)) for pid in (self.tree.leader, os.getpid())]
            words = ["%d %d" % (pid, row.start if row else 0) for pid, row in rows]
            folders.write_file(self.folder, "pid", ("%s\n%s\n" % (" ".join(words), proc.identity())).encode())
        except OSError as error:  # a job that nobody could find again must not run
            os.kill(self.tree.leader, signal.SIGKILL)
            os.waitpid(self.tree.leader, 0)
            return "its folder cannot be written: " + os.strerror(error.errno)
        return None

    def stay(self):
        while not self.tree.has_ended() and not self.tree.hangs():
            poll = select.poll()
            poll.register(self.wake.fd, select.POLLIN)
            if self.gang is not None:
                self.gang.wait(poll)
            quiet = self.tree.status is None and not self.tree.stopped
            if self.wake.fd in (fd for fd, _ in poll.poll((self.patience() if quiet else TICK_S) * 1000)):
                self.wake.hear()
            self.tree.reap()
            self.watch_time()
            self.watch_gang()
            self.tree.escalate()
            if self.marks is not None:
                self.marks.tick(time.monotonic())
            if quiet and time.monotonic() >= self.look_at:
                self.note_sessions()
                self.look_at = time.monotonic() + self.look_s
                self.look_s = min(self.look_s * 2, LOOK_S)
        self.finish()

    def patience(self):
        """Return for how long a job that runs may be left alone, in seconds."""
        until = self.look_at if self.deadline is None else min(self.look_at, self.deadline)
        left = max(0.001, until - time.monotonic())
        left = left if self.gang is None else min(left, self.gang.TICK_S)
        return left if self.marks is None else min(left, times.EVERY_S)

    def watch_time(self):
        """End a job that ran longer than it may, as a stop does."""
        late = self.deadline is not None and time.monotonic() >= self.deadline
        if late and self.tree.status is None and not self.tree.stopped:
            self.timed_out = True
            self.tree.stop(TIMEOUT_GRACE_S)

    def note_sessions(self):
        """Write down the job's sessions, by which a later stop finds it should we be killed."""
        table = proc.table()
        now = {table[pid].session for pid, _ in self.tree.living() if pid in table} - set(self.sessions)
        if now:
            self.sessions.update((sid, table[sid].start if sid in table else 0) for sid in now)
            try:
                words = ("%d:%d" % item for item in sorted(self.sessions.items()))
                folders.write_file(self.folder, "sessions", " ".join(words).encode())
            except OSError:
                return  # a full disk; the marker still finds them

    def finish(self):
        if self.tree.stopped and self.spec.get("on_end"):
            run_on_end(bytes_of(self.spec["on_end"]), self.environ)
        left = self.tree.survivors()
        code, number = self.tree.exit()
        if code is None and number is None:
            number = signal.SIGKILL  # it hangs in the kernel with KILL pending; it is among the survivors
        end = {"status": code, "signal": number, "ended_at": self.tree.ended_at or time.time()}
        end["gpu_left"] = self.gpus_left()
        end["survivors"] = ["%d %s" % (pid, name.decode("utf-8", "replace")) for pid, name in left][:50]
        if self.told_at is not None:
            end["told_at"], end["because"] = self.told_at, self.because[:300]
        if self.marks is not None:
            self.marks.tick(time.monotonic(), final=True)
        end["stopped"], end["timed_out"] = self.tree.stopped, self.timed_out
        end["oom_kills"] = oom.since(self.oom_kills)
        room = os.path.join(self.folder, ".exit-room")
        fd = os.open(room, os.O_WRONLY)
        files.write_all(fd, json.dumps(end).encode()[:EXIT_BYTES].ljust(EXIT_BYTES))
        os.fsync(fd)
        os.close(fd)
        os.rename(room, os.path.join(self.folder, "exit"))

    def gpus_left(self):
        """Return which GPUs still have memory in use that was free before."""
        if not self.gpus:
            return []
        from asyncdeploy.node_side import gpus

        before = json.loads(self.gpus)
        return gpus.left_in_use(before["nvidia_smi"], before["used"])[:50]


def bytes_of(text):
    """Return what the client meant: JSON holds bytes that are no UTF-8 as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")
