"""What of a job outlives the end of our session: logind and Slurm may take it away.

Runs on a node, loaded by jobs.py: Python >= 3.8, standard library only.

Where logind is told so, it kills all of a session, or takes away the shared memory of a user who has logged out,
which is said. logind.conf(5): KillUserProcesses, and the users for whom it counts; what counts is in which control
group a process is, and not whether it is a session's leader. RemoveIPC counts for all but the system's own users,
unless one lingers (loginctl enable-linger).

In a Slurm job we are a step, which ends when its task, the worker, has ended. Where Slurm tracks processes by control
group it kills with it all that the step ever started, however detached; elsewhere it leaves that on the node, even when
the job is over. So a worker stays for the jobs that it has started, and no longer than Slurm's job: its TERM, which
comes KillWait (30 s) before its KILL, goes on to those who hold our jobs. Where KILL comes at once, and does not reach
what has left the step, who holds a job sees that its worker is gone. SLURM_JOB_END_TIME is no deadline for them: it is
what was planned when the step began, and a job's time may be made longer. A step lives on without its srun, once that
has lost its client.
"""

import _signal as signal
import os
import re
import time

from asyncdeploy.node_side import files, job_folder as folders, proc, processes, tools
from asyncdeploy.node_side.run.job_state import ALIVE, status_of

LINGER = "/var/lib/systemd/linger"
FIRST_USER = 1000  # logind leaves the IPC of those below it alone
ASK_S = 3.0  # loginctl asks over a bus, which may hang
LOOK_S = 0.5
GRACE_S = 20.0  # for a job to write a checkpoint; its end is to be on the disk before the KILL comes
BECAUSE = "Slurm ended the job that held this node: it was cancelled, or its time was over"
STEP_LOOK_S = 2.0  # between two looks whether our step is there
LATE_GRACE_S = 5.0  # where it is not: the node may be somebody else's by now
KILLED = "its step of the Slurm job was killed: the job is over, its node failed, or somebody ended the step"


def said():
    """Return what is told of a job: whether it survives the end of the session, and its shared memory does."""
    if not in_session(files.text("/proc/self/cgroup")):
        return {}  # no session of logind's: a container, a node without it, or a unit of its own
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ""
    settings = asked()
    lingers = bool(name) and os.path.exists(os.path.join(LINGER, name))
    return {
        "survives_logout": not kills(settings, name),
        "keeps_shared_memory": not removes_ipc(settings, os.getuid(), lingers),
    }


def removes_ipc(settings, uid, lingers):
    """Return whether these settings take away a user's shared memory when his last session is over."""
    return "RemoveIPC=yes" in settings.splitlines() and uid >= FIRST_USER and not lingers


def in_session(groups):
    return bool(re.search(r"/session-[^/]+\.scope(/|$)", groups, re.MULTILINE))


def asked():
    """Return logind's own settings as "Name=value" lines."""
    names = ("KillUserProcesses", "KillExcludeUsers", "KillOnlyUsers", "RemoveIPC")
    return tools.ask(["loginctl", "show-session", *("--property=" + name for name in names)], ASK_S)


def kills(settings, user):
    """Return whether these settings end this user's processes with their session."""
    found = dict(line.partition("=")[::2] for line in settings.splitlines())
    only, exclude = (found.get(key, "").split() for key in ("KillOnlyUsers", "KillExcludeUsers"))
    return found.get("KillUserProcesses") == "yes" and user not in exclude and (not only or user in only)


def hold(worker, job_id, ask_to_stop):
    """Keep the worker's step of a Slurm job alive for a job that it has just started."""
    if not worker.in_step:
        return
    if worker.at_end is None:
        worker.at_end = Stay(ask_to_stop)
        signal.signal(signal.SIGTERM, worker.at_end.leave)
    worker.at_end.jobs.append(job_id)


class Stay:
    """What a worker that has started jobs does at its end: wait for theirs."""

    def __init__(self, ask_to_stop):
        self.ask_to_stop = ask_to_stop
        self.jobs = []

    def __call__(self):
        signal.signal(signal.SIGTERM, self.pass_on)
        processes.let_go_of_all_but(set())  # srun's client is gone, and it must not wait for us to write
        processes.set_name(processes.find_prctl(), b"adeploy-step")
        while any(files.insist(is_alive, job_id) for job_id in self.jobs):
            time.sleep(LOOK_S)

    def leave(self, *_):
        """Slurm ends its job while the client is still there."""
        self.pass_on()
        raise SystemExit("Slurm ends the job")

    def pass_on(self, *_):
        """Have our jobs end."""
        for job_id in self.jobs:
            folder = folders.folder_of(job_id)
            holder = folders.Pids(folder).holder()
            if holder:
                self.ask_to_stop(folder, GRACE_S, BECAUSE)
                processes.tell(holder, signal.SIGTERM)


def step_of(worker, ask_to_stop):
    """Return the step that a job of this worker's lives in, None where it is none."""
    row = proc.process(os.getpid()) if worker.in_step else None
    return None if row is None else Step(os.getpid(), row.start, ask_to_stop)


class Step:
    """A step of a Slurm job as who holds a job in it sees it: it lasts as long as its worker lives."""

    def __init__(self, pid, start, ask_to_stop):
        self.worker = (pid, start)
        self.ask_to_stop = ask_to_stop
        self.look_at = 0.0

    def tick(self, supervisor):
        """Have a job end, as by a stop, when its step is gone."""
        now = time.monotonic()
        if now < self.look_at:
            return
        self.look_at = now + STEP_LOOK_S
        if proc.is_same(*self.worker):
            return
        self.look_at = float("inf")
        if supervisor.tree.stopped:
            supervisor.tree.stop(LATE_GRACE_S)  # KILL has come: what is left of a longer grace is not for us to give
        else:
            self.ask_to_stop(supervisor.folder, LATE_GRACE_S, KILLED)
            supervisor.asked = True


def is_alive(job_id):
    """Whether anything of a job lives; whoever holds one of a launch stays for the other ranks' ends."""
    return bool(folders.Pids(folders.folder_of(job_id)).holder()) or status_of(job_id).get("state") in ALIVE
