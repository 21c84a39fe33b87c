"""The supervisor of a detached job: starts it, gathers its orphans, ends it when asked, writes down how it ended.

Runs on a node in a process of its own, forked by keeper.py: Python >= 3.8, standard library only.
"""

import _signal as signal
import json
import os
import select
import time

from asyncdeploy.node_side import files, job_folder as folders, oom, proc, processes
from asyncdeploy.node_side.run import log_times as times, retention
from asyncdeploy.node_side.run.job_state import marker_of
from asyncdeploy.node_side.run.membership import Membership
from asyncdeploy.node_side.run.process_tree import TICK_S, ProcessTree, Wake, run_on_end
from asyncdeploy.node_side.run.sessions import Sessions
from asyncdeploy.node_side.run.supervising import end_record
from asyncdeploy.node_side.run.supervising.aside import Aside
from asyncdeploy.node_side.run.supervising.word import Word

TIMEOUT_GRACE_S = STOP_GRACE_S = 5.0  # for a job that ran longer than it may; of a stop that does not say its own
LOOK_S = 0.01  # between two looks whether a thing that was begun beside the loop is done
NOT_FOUND = 127  # no such program
MOST_PATH = 1000
ASK_S = 15.0  # for the driver's word about memory that stays in use; whoever waits for the end waits for it so long
STOP_BYTES = 64  # reserved at the start, so that a job can be told to stop what has filled it
PID_BYTES = 400  # and be found again, though it fills the disk at once
TOLD = ("begun", "deadline", "timed_out", "stopped_at", "oom_kills")  # of what we know ourselves, to the keeper


class Supervisor:
    """Lives as long as its job, in a session of its own, and writes down how it ended."""

    def __init__(self, folder, spec, env, step):
        self.folder, self.spec, self.step = folder, spec, step  # step: of a Slurm job (outlive.py)
        marker = spec["id"].encode()
        self.environ = processes.marked_environ(env, marker)
        self.environ[b"ASYNCDEPLOY_JOB"] = marker
        self.plan = self.environ.pop(b"ASYNCDEPLOY_GANG", None)  # of its launch; not for what we start
        self.gpus = self.environ.pop(b"ASYNCDEPLOY_GPUS", None)  # what was in use before
        self.membership = self.marks = None  # of a rank of a launch
        self.deadline = self.stopped_at = self.oom_kills = None
        self.begun = self.timed_out = self.asked = False
        self.word = Word(None)
        self.sessions = Sessions(folder)
        self.aside = Aside()

    def supervise(self, stdin, into, keeper, word, held):
        """Start the job, say so, and stay until it ended.

        keeper: the pid of ours. word: where it hears what we know. held: what tells a guard that we live, or None.
        """
        self.word = Word(word)
        try:
            processes.let_go_of_all_but({stdin, into, word, held})
            self.get_ready()
            reason = self.membership.take_place() if self.membership is not None else None
            reason = reason or self.begin(stdin, keeper)
        except Exception as error:
            reason = files.why(error)
        tell(into, reason.encode("utf-8", "replace") if reason else b"ok")
        os.close(into)
        os.close(stdin)
        if not reason:
            self.see_it_through()

    def take_over(self, said):
        """Know what a supervisor that has died said it knew; whether there is something to go on with."""
        # A home that is away for a moment is no reason to end what runs.
        if not said.get("begun") and ("leader" not in said or not folders.Pids(self.folder).known):
            self.undo()  # nobody was told that it runs, and nobody could find it
            return False
        self.recall(said)
        if not self.tree.is_ours():
            return False  # nobody will know how it ends; its guard, or a stop, ends it
        self.sessions.recall()
        self.asked = self.request() is not None  # obeyed again: it may ask for a shorter grace than what runs
        return True

    def get_ready(self):
        """Be the one who is asked, and to whom the job's orphans come."""
        prctl = processes.find_prctl()
        processes.set_name(prctl, b"adeploy-job")
        self.tree = ProcessTree(marker_of(self.spec["id"]), prctl)
        self.tree.on_end = self.say
        self.wake = Wake()
        if self.plan:
            self.membership = Membership(json.loads(self.plan))
        signal.signal(signal.SIGTERM, self.on_term)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def see_it_through(self):
        """Stay until the job has ended and everybody who must knows how."""
        if self.membership is not None:
            self.marks = times.Marks(self.folder)
        if files.insist(folders.read_json, self.folder, "exit") is None:
            self.stay()
        if self.membership is not None:
            self.asked = False  # what was asked for while the job ran is done
            self.membership.linger(self.tree, self.timed_out, lambda: self.asked)
        retention.keep_bounded()

    def undo(self):
        """End what was started."""
        self.tree.status = 0  # nobody's own end is awaited
        self.tree.stop(0.0)
        self.tree.end()

    def say(self):
        """Tell the keeper what it must know to take our place."""
        self.word.say({**self.tree.known(), **{name: getattr(self, name) for name in TOLD}})
        if self.membership is not None:
            self.word.say(self.membership.known())

    def recall(self, said):
        """Know what a supervisor has said it knew."""
        for name in TOLD:
            setattr(self, name, said[name])
        self.tree.recall(said)
        if self.membership is not None:
            self.membership.recall(said)

    def on_term(self, *_):
        self.asked = True  # obeyed behind the next look at what has ended

    def obey(self):
        """Obey a stop: its grace stands in a file, for a signal carries nothing.

        A leader that has ended by itself was not stopped, however long we sweep behind it, and there is no hurry.
        """
        if self.asked and self.tree.status is None:
            request = self.request() or {}
            self.asked = False  # who asks again may shorten the grace
            if not self.tree.stopped:
                self.stopped_at = time.time()
            grace = request.get("grace_s")
            self.tree.stop(float(grace) if isinstance(grace, (int, float)) else STOP_GRACE_S)

    def request(self):
        """Return what a stop has asked for, None where there was none."""
        return folders.read_json(self.folder, "stop")

    def begin(self, stdin, keeper):
        """Start the leader and write down who it is; return why not, or None."""
        try:
            end_record.reserve(self.folder)
            folders.reserve(self.folder, "stop", STOP_BYTES)
            folders.reserve(self.folder, "pid", PID_BYTES)
            self.spec["started_at"] = time.time()
            folders.write_file(self.folder, "spec.json", json.dumps(folders.told(self.spec)).encode())
            log = os.open(os.path.join(self.folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            return "its folder %s cannot be written: %s" % (self.folder, os.strerror(error.errno))
        try:
            self.oom_kills = oom.oom_kills()
            cwd = os.fsencode(self.spec["cwd"] or "")
            problem = self.tree.start(bytes_of(self.spec["line"]), cwd, self.environ, [stdin, log, log])
        finally:
            os.close(log)
            os.chdir("/")  # it must not keep a file system from being unmounted
        if problem:
            return problem
        if self.spec.get("timeout_s"):
            self.deadline = time.monotonic() + self.spec["timeout_s"]
        self.say()
        try:
            rows = [(pid, proc.process(pid)) for pid in (self.tree.leader, os.getpid(), keeper)]
            words = ["%d %d" % (pid, row.start if row else 0) for pid, row in rows]
            text = "%s\n%s\n" % (" ".join(words), proc.place())
            folders.fill(self.folder, "pid", text.encode(), PID_BYTES)
        except OSError as error:  # a job that nobody could find again must not run
            self.undo()
            return "its folder %s cannot be written: %s" % (self.folder, os.strerror(error.errno))
        self.begun = True  # whoever asks can find it
        self.say()
        # Who stopped it before its pid could be read may have gone away: a start that was cancelled.
        self.asked = self.asked or os.path.exists(os.path.join(self.folder, "stop"))
        return None

    def stay(self):
        """Stay until nothing of the job lives, and write down how it ended."""
        while not self.tree.has_ended() and not self.tree.hangs():
            try:
                self.turn()
            except Exception:  # no memory is left, say: a moment later there may be, and nobody else is here
                time.sleep(TICK_S)
        self.finish()

    def turn(self):
        """Wait until something is to be done, and do it."""
        poll = select.poll()
        poll.register(self.wake.fd, select.POLLIN)
        if self.membership is not None:
            self.membership.register(poll)
        quiet = self.tree.status is None and not self.tree.stopped
        if self.wake.fd in (fd for fd, _ in poll.poll((self.patience() if quiet else TICK_S) * 1000)):
            self.wake.hear()
        self.tree.reap()
        if self.step is not None:
            self.step.tick(self)
        self.obey()
        self.watch_time()
        if self.membership is not None:
            self.membership.tick(self.tree, self.timed_out)
        self.tree.escalate()
        self.say()
        if self.membership is not None:
            self.aside.do(self.note_down, quiet)
        elif quiet:
            self.note_down(quiet)

    def note_down(self, quiet):
        """Write down what is seen; of a launch's rank beside its loop: a disk that stands still must not silence us."""
        if self.marks is not None:
            self.marks.tick(time.monotonic())
        if quiet:
            self.sessions.tick(self.tree, time.monotonic())
        if self.membership is not None:
            self.membership.look(self.tree)

    def beside(self, work, *args):
        """Do something that a disk or a driver may hold up, and stay in touch with the others of a launch meanwhile."""
        if self.membership is None:
            work(*args)
            return
        self.stay_in_touch()
        self.aside.do(work, *args)
        self.stay_in_touch()

    def stay_in_touch(self):
        while self.aside.busy:
            self.membership.tick(self.tree, self.timed_out)
            time.sleep(LOOK_S)

    def patience(self):
        """Return for how long a job that runs may be left alone, in seconds."""
        look_at = float("inf") if self.aside.busy else self.sessions.look_at
        step_at = float("inf") if self.step is None else self.step.look_at
        until = min(look_at, step_at, float("inf") if self.deadline is None else self.deadline)
        left = max(0.001, until - time.monotonic())
        return left if self.membership is None else min(left, self.membership.patience(), times.EVERY_S)

    def watch_time(self):
        """End a job that ran longer than it may, as a stop does."""
        late = self.deadline is not None and time.monotonic() >= self.deadline
        if late and self.tree.status is None and not self.tree.stopped:
            self.timed_out = True
            self.tree.stop(TIMEOUT_GRACE_S)

    def finish(self):
        """Do what is due at the end, and write it down."""
        code, number = self.tree.exit()
        if code is None and number is None:
            number = signal.SIGKILL  # it hangs in the kernel with KILL pending; it is among the survivors
        end = {"status": code, "signal": number, "ended_at": self.tree.ended_at or time.time()}
        end["stopped"], end["timed_out"] = self.tree.stopped, self.timed_out
        try:
            self.add_what_else_is_known(end, code)
        except Exception as error:  # the end itself is written all the same
            end.setdefault("because", files.why(error)[:300])
        if self.gpus:
            end["asks_until"] = time.time() + ASK_S
        self.beside(end_record.write, self.folder, end)
        if self.gpus:
            self.beside(end_record.add_gpus_left, self.folder, end, json.loads(self.gpus))

    def add_what_else_is_known(self, end, code):
        """Do what is due at a stop, and add to an end what survived and why it came."""
        if self.tree.stopped and self.spec.get("on_end"):
            run_on_end(bytes_of(self.spec["on_end"]), self.environ)
        left = self.tree.survivors()
        if code == NOT_FOUND:
            end["path"] = os.fsdecode(self.environ.get(b"PATH", b""))[:MOST_PATH]
        end["survivors"] = ["%d %s" % (pid, name.decode("utf-8", "replace")) for pid, name in left][:50]
        if self.membership is not None and self.membership.told_at is not None:
            end["told_at"], end["because"] = self.membership.told_at, self.membership.because[:300]
        elif self.stopped_at is not None and isinstance(because := (self.request() or {}).get("because"), str):
            end["told_at"], end["because"] = self.stopped_at, because[:300]  # by whoever watched, for another's failure
        if self.membership is not None and self.membership.meeting is not None:
            end["met"] = self.membership.meeting.seen
        if self.marks is not None:
            self.beside(self.marks.tick, time.monotonic(), True)
        if self.stopped_at is not None:
            end["stopped_at"] = self.stopped_at
        end["oom_kills"] = oom.since(self.oom_kills)


def tell(into, data):
    """Say something to the worker that starts us; it may be dead, and the job runs all the same."""
    try:
        os.write(into, data)
    except BrokenPipeError:
        pass  # whoever asks next finds the job by its folder


def bytes_of(text):
    """Return what the client meant: JSON holds bytes that are no UTF-8 as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")
