"""The folder of a detached job, and what can be told from it and the process table.

Runs on a node, loaded by jobs.py and supervisor.py: Python >= 3.8, standard library only.
"""

import json
import os
import time

from asyncdeploy.node_side import processes

START_S = 30.0  # a folder without a lock is that of a starter who is about to take it


def base_folder():
    """Return the folder of all jobs, made safely: ours, closed to others."""
    home = os.environ.get("HOME") or os.path.expanduser("~")
    for folder in (os.path.join(home, ".asyncdeploy"), os.path.join(home, ".asyncdeploy", "jobs")):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            info = os.lstat(folder)
            if info.st_uid != os.getuid() or (info.st_mode & 0o170000) != 0o040000:
                raise PermissionError("%s is not a folder of ours" % folder) from None
    return os.path.join(home, ".asyncdeploy", "jobs")


def folder_of(job_id):
    return os.path.join(base_folder(), job_id)


def write_file(folder, name, data):
    """Write a file of the job's folder, whole or not at all."""
    part = os.path.join(folder, ".%s.%s" % (name, os.urandom(4).hex()))
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        processes.write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(part, os.path.join(folder, name))


def read_file(folder, name):
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return None


def read_json(folder, name):
    try:
        return json.loads(read_file(folder, name) or b"null")
    except ValueError:
        return None


def identity():
    """Name this boot of this machine or container: machines share homes, and containers share boot ids."""
    parts = []
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            parts.append(file.read().strip())
    except OSError:
        parts.append("")
    row = processes.process_row(1)
    parts.append(str(row[4] if row else ""))
    try:
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    except OSError:
        parts.append("")
    parts.append(os.uname().nodename)
    return ":".join(parts)


# --- state ---------------------------------------------------------------------


class Pids:
    """What the file "pid" says; 0 where it says nothing."""

    def __init__(self, folder):
        text = (read_file(folder, "pid") or b"").decode("ascii", "replace")
        first, _, rest = text.partition("\n")
        words = [int(word) for word in first.split() if word.isdigit()] + [0] * 4
        self.leader, self.leader_start, self.supervisor, self.supervisor_start = words[:4]
        self.identity = rest.strip()
        self.known = bool(text)


def is_same(pid, start):
    """True if the process that had this pid and start time lives."""
    row = processes.process_row(pid) if pid else None
    return row is not None and row[4] == start and row[1] not in (b"Z", b"X")


def marker_of(job_id):
    return b"ASYNCDEPLOY_JOB=" + job_id.encode()


def living(folder, job_id, pids):
    """Return (pid, name) of every process of the job, its supervisor left out."""
    seen = {pids.leader: pids.leader_start}
    for word in (read_file(folder, "sessions") or b"").split():
        session, _, start = word.partition(b":")
        seen[int(session)] = int(start)
    # The kernel gives a session's number to nobody else while one of it lives; a leader that started at another time
    # leads another session of the same number, and none of its processes are the job's.
    strangers = {sid for sid, start in seen.items() if (row := processes.process_row(sid)) and row[4] != start}

    def in_session(_pid, row):
        return row[3] in seen and row[3] not in strangers and row[4] >= pids.leader_start

    spare = pids.supervisor if is_same(pids.supervisor, pids.supervisor_start) else 0
    roots = [pids.leader] if is_same(pids.leader, pids.leader_start) else []
    found = processes.family(roots, None, marker_of(job_id), in_session)
    row = processes.process_row(pids.leader) if roots else None  # it may have ended meanwhile
    if row is not None:
        found.append((pids.leader, row[0]))
    return [(pid, name) for pid, name in found if pid != spare]


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
        status.update(end, state="signalled" if end.get("signal") else "exited")
    elif pids.known and pids.identity != identity():
        same_machine = pids.identity.rpartition(":")[2] == os.uname().nodename
        status["state"] = "lost" if same_machine else "elsewhere"
    elif pids.known:
        if is_same(pids.supervisor, pids.supervisor_start):
            status["state"] = "running"
        elif read_json(folder, "exit") is not None:  # it ended between two looks
            return status_of(job_id)
        else:
            status["state"] = "orphaned" if living(folder, job_id, pids) else "lost"
    elif not starter_lives(folder):
        status["state"] = "lost"
    return status


def starter_lives(folder):
    """True while somebody holds the folder's lock to start the job."""
    import fcntl

    try:
        fd = os.open(os.path.join(folder, "lock"), os.O_RDWR)
    except OSError:
        return os.path.isdir(folder) and time.time() - os.stat(folder).st_mtime < START_S
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
