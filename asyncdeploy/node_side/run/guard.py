"""End a job that nobody holds any more; for a rank of a launch a guard does it when nobody else comes to.

Runs on a node, loaded by jobs.py and keeper.py: Python >= 3.8, standard library only.

When a supervisor and its keeper are killed (by the kernel that ran out of memory, by hand) they leave their rank alone,
and the other ranks wait for it. Their supervisors end them after a silence; the guard, a process that only waits for
the end of these two, does the same here.
"""

import _signal as signal
import os
import time

from asyncdeploy.node_side import files, processes
from asyncdeploy.node_side.job_folder import Pids
from asyncdeploy.node_side.run.job_state import ALIVE, living, status_of
from asyncdeploy.node_side.run.process_tree import TICK_S, Ending

LOOK_S = 1.0
DISMISS_S = 2.0  # for a supervisor to go whose job has ended


def end_orphans(folder, job_id, grace, poll=lambda: None):
    """End a job that nobody holds; return what could not be ended, as (pid, name)."""
    pids, ending = Pids(folder), Ending()
    while True:
        left = living(folder, job_id, pids)
        if not left or ending.is_over():
            return left
        ending.step(lambda left=left: left, pids.leader, pids.leader_lives(), grace)
        poll()
        time.sleep(TICK_S)


def dismiss(folder, poll):
    """Have a supervisor go that stays for the other ranks of a launch: it is taken back, and they do not come."""
    deadline = time.monotonic() + DISMISS_S
    while (holder := Pids(folder).holder()) and time.monotonic() < deadline:
        # Again and again: what comes between the end on its disk and its staying counts as a stop of the job.
        processes.tell(holder, signal.SIGTERM)
        poll()
        time.sleep(TICK_S)


def post(gone, folder, job_id, silence_s, grace_s):
    """Fork a guard, which waits until ``gone``, a descriptor, ends; return its pid.

    Whoever holds the other end of the first one must live for the guard to sleep; the kernel lets go of it when they
    die, however they die.
    """
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        watch(gone, folder, job_id, silence_s, grace_s)
    finally:
        os._exit(0)


def watch(gone, folder, job_id, silence_s, grace_s):
    processes.let_go_of_all_but({gone})
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # their end is ours too; nothing else is
    processes.set_name(processes.find_prctl(), b"adeploy-guard")
    os.read(gone, 1)  # nothing ever comes: it returns when supervisor and keeper have ended
    until = time.monotonic() + silence_s
    while files.insist(is_left, folder, job_id, grace_s, until):
        time.sleep(min(LOOK_S, silence_s))


def is_left(folder, job_id, grace_s, until):
    """Whether a rank is still to be looked after; from a time on one that nobody holds is ended."""
    state = status_of(job_id).get("state")
    # One that is just dying lets go of us before it counts as gone. And a person may come and look: the
    # rank is left as it is for as long as the other ranks would wait for a word of it.
    if state == "orphaned" and time.monotonic() >= until:
        end_orphans(folder, job_id, grace_s)
        return False
    return state in ALIVE
