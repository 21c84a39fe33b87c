"""What state a detached job is in, and what of it lives: told from its folder and the process table.

Runs on a node, loaded by jobs.py and guard.py: Python >= 3.8, standard library only.
"""

import os
import time

from asyncdeploy.node_side import family, proc
from asyncdeploy.node_side.job_folder import Pids, folder_of, read_json
from asyncdeploy.node_side.locks import Lock
from asyncdeploy.node_side.run.sessions import sessions_of

ALIVE = ("starting", "running", "orphaned")  # states of a job that has processes, or is about to
RUNS = (*ALIVE, "elsewhere")  # and those that another machine, which shares our home, has to tell the end of
START_S = 30.0  # a folder without a lock is that of a starter who is about to take it


def marker_of(job_id):
    return b"ASYNCDEPLOY_JOB=" + job_id.encode()


def living(folder, job_id, pids):
    """Return (pid, name) of every process of the job, those who hold it left out."""
    seen = sessions_of(folder)
    if pids.leader:
        seen[pids.leader] = pids.leader_start
    # The kernel gives a session's number to nobody else while one of it lives; a leader that started at another time
    # leads another session of the same number, and none of its processes are the job's.
    strangers = {sid for sid, start in seen.items() if (row := proc.process(sid)) and row.start != start}

    def in_session(_pid, row):
        return row.session in seen and row.session not in strangers and row.start >= pids.leader_start

    spare = {pid for pid, start in pids.holders if proc.is_same(pid, start)}
    roots = [pids.leader] if pids.leader_lives() else []
    found = family.members(roots, None, marker_of(job_id), in_session)
    row = proc.process(pids.leader) if roots else None  # it may have ended meanwhile
    if row is not None:
        found.append((pids.leader, row.name))
    return [(pid, name) for pid, name in found if pid not in spare]


def status_of(job_id):
    """Return a job's state as its folder and the process table tell it."""
    folder = folder_of(job_id)
    spec = read_json(folder, "spec.json")
    if spec is None and not os.path.isdir(folder):
        return {"error": "unknown"}
    status = {"id": job_id, "spec": spec or {}, "state": "starting"}
    end = read_json(folder, "exit")
    pids = Pids(folder)
    started = (spec or {}).get("started_at")
    if started:
        status["started_at"] = started
    if end is not None:
        status.update(end, id=job_id, spec=spec or {}, state="signalled" if end.get("signal") else "exited")
        asks = asks_until(end) > time.time() and bool(pids.holder())
        status["unfinished"] = asks  # it has ended; what else is to be known of it comes in a moment
    elif pids.known and pids.is_cut:
        # Who it is, and where, was cut: a process that bears its mark is all that can be known of it.
        status["state"] = "orphaned" if living(folder, job_id, pids) else "lost"
    elif pids.known and not pids.is_here():
        status["state"] = "elsewhere" if pids.elsewhere() else "lost"
    elif pids.known:
        if pids.holder():
            status["state"] = "running"
        elif read_json(folder, "exit") is not None:  # it ended between two looks
            return status_of(job_id)
        else:
            status["state"] = "orphaned" if living(folder, job_id, pids) else "lost"
    elif not starter_lives(folder):
        status["state"] = "lost"
    if status["state"] == "lost":
        status["booted_at"] = booted_at()
    return status


def asks_until(end):
    """Return until when a supervisor asks about its end; 0 where that file says nothing sound: a person wrote it."""
    found = end.get("asks_until")
    return found if isinstance(found, (int, float)) else 0


def status_of_started(job_id):
    """Return the status of a job that has just been started; a disk that cannot tell it takes nothing from that."""
    try:
        return status_of(job_id)
    except OSError:
        return {"id": job_id, "state": "running"}


def booted_at():
    """Return when this machine or container began, by its clock; None where nothing says that."""
    first = proc.process(1)
    if first is None:
        return None
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - first.start / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.time() - ago)


def starter_lives(folder):
    """True while somebody holds the folder's lock to start the job."""
    path = os.path.join(folder, "lock")
    if not os.path.exists(path):
        return os.path.isdir(folder) and time.time() - os.stat(folder).st_mtime < START_S
    lock = Lock(path)
    try:
        return not lock.is_free()
    finally:
        lock.close()
