"""End a job whose supervisor is gone; for a rank of a launch a guard does it when nobody else comes to.

Runs on a node, loaded by jobs.py: Python >= 3.8, standard library only.

A supervisor that is killed (by the kernel that ran out of memory, by hand) leaves its rank alone, and the other ranks
wait for it. Their supervisors end them after a silence; the guard, a process that only waits for the supervisor's end,
does the same here.
"""

import _signal as signal
import os
import time

from asyncdeploy.node_side import processes
from asyncdeploy.node_side.job_folder import Pids
from asyncdeploy.node_side.run.job_state import ALIVE, living, status_of
from asyncdeploy.node_side.run.process_tree import TICK_S, Ending

LOOK_S = 1.0


def end_orphans(folder, job_id, grace, poll=lambda: None):
    """End a job whose supervisor is gone; return what could not be ended, as (pid, name)."""
    pids, ending = Pids(folder), Ending()
    while True:
        left = living(folder, job_id, pids)
        if not left or ending.is_over():
            return left
        ending.step(lambda left=left: left, pids.leader, pids.leader_lives(), grace)
        poll()
        time.sleep(TICK_S)


def post(folder, job_id, silence_s, grace_s):
    """Fork a guard; return a descriptor that the supervisor holds for as long as it lives.

    Called before the supervisor gathers orphans, so that the guard is no child of its and no part of the job.
    """
    # The kernel closes that descriptor when the supervisor dies, however it dies; until then the guard sleeps. It is
    # forked twice to be the system's: for a child the supervisor would wait at the job's end, and that child for it.
    out, into = os.pipe()
    child = os.fork()
    if child:
        os.close(out)
        os.waitpid(child, 0)
        return into
    try:
        os.setsid()
        if os.fork() == 0:
            watch(out, folder, job_id, silence_s, grace_s)
    finally:
        os._exit(0)


def watch(out, folder, job_id, silence_s, grace_s):
    processes.let_go_of_all_but({out})
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # the supervisor's end is ours too; nothing else is
    processes.set_name(processes.find_prctl(), b"adeploy-guard")
    os.read(out, 1)  # nothing ever comes: it returns when the supervisor has ended
    until = time.monotonic() + silence_s
    while True:
        state = status_of(job_id).get("state")
        if state not in ALIVE:
            return
        # A supervisor that is just dying lets go of us before it counts as gone. And a person may come and look: the
        # rank is left as it is for as long as the other ranks would wait for a word of it.
        if state == "orphaned" and time.monotonic() >= until:
            end_orphans(folder, job_id, grace_s)
            return
        time.sleep(min(LOOK_S, silence_s))
