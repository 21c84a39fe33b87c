"""The folder of a detached job, ~/.asyncdeploy/jobs/<id>: where it is, and what its files say.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import os

from asyncdeploy.node_side import files, live_jobs, proc
from asyncdeploy.node_side.locks import Lock

MOST = 1 << 20  # bytes of a file that is read
MOST_DIGITS = 20  # of a pid, a session, a start time
MOST_TOLD = 4096  # characters of a line that is for people only, once it runs


def path_of(job_id, *names):
    """Return where a job's folder is or would be, or what is in it."""
    return files.own_path("jobs", job_id, *names)


def base_folder():
    """Return the folder of all jobs, made safely."""
    return files.own_folder("jobs")


def ids():
    """Return the names of the folders there, in their order; nothing is made, as looking is no reason to."""
    try:
        return sorted(name for name in os.listdir(files.own_path("jobs")) if not name.startswith("."))
    except FileNotFoundError:
        return []


def folder_of(job_id):
    """Return a job's folder, the one above it made safely."""
    return os.path.join(base_folder(), job_id)


def starts_lock():
    """Return the lock under which jobs are started, one after the other: whoever has it sees all that run."""
    return Lock(os.path.join(base_folder(), ".names"))


def emptying_path(site):
    """Return the file whose lock says that a site is just being cleaned away."""
    return os.path.join(site, files.OWN, "cleaning")


def being_emptied(spec):
    """Return a site that is just being cleaned away where a job would run, or ""; asked under the lock of starts."""
    for place in (spec["site"], spec["cwd"]):
        path = os.path.realpath(files.expand(os.fsencode(place or "/")))
        while path != b"/":
            site = os.fsdecode(path)
            if is_held(emptying_path(site)):
                return site
            path = os.path.dirname(path)
    return ""


def is_held(path):
    """Whether somebody has a lock; nothing is made."""
    if not os.path.exists(path):
        return False
    try:
        lock = Lock(path)
    except (FileNotFoundError, PermissionError):
        return False  # it has just gone with its site, or is another user's
    try:
        return not lock.is_free()
    finally:
        lock.close()


def reserve(folder, name, size):
    """Take the room for a small file that must be written where the disk is full."""
    write_file(folder, ".%s-room" % name, b" " * size)


def fill(folder, name, data, size):
    """Write a file into the room that was taken for it, which gets its name."""
    room = os.path.join(folder, ".%s-room" % name)
    fd = os.open(room, os.O_WRONLY)
    try:
        files.write_all(fd, data[:size].ljust(size))
        os.ftruncate(fd, min(len(data), size))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(room, os.path.join(folder, name))


def write_file(folder, name, data):
    """Write a file of the job's folder, whole or not at all, also where the node loses its power."""
    files.write_whole(os.path.join(folder, name), data, sync=True)


def read_file(folder, name):
    """Return what a file of a job's folder holds, at most MOST bytes of it; b"" where it is not there."""
    return files.read(os.path.join(folder, name), MOST)


def read_json(folder, name):
    """Return the object that a file of JSON holds, None where it is not there or is cut."""
    import json

    try:
        found = json.loads(read_file(folder, name) or b"null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def told(spec):
    """Return what a job is as it is written down and told: its lines are for people there, and cut."""
    lines = {name: spec[name] for name in ("line", "on_end") if isinstance(spec.get(name), str)}
    return {**spec, **{name: cut(line) for name, line in lines.items()}}


def cut(line):
    return line if len(line) <= MOST_TOLD else line[: MOST_TOLD - 3] + "..."


class Pids:
    """What the file "pid" says: leader, supervisor and keeper with their start times, and their machine.

    Attributes: leader, leader_start (0 where nothing is known), holders (the others, each pid and start time).
    """

    def __init__(self, folder):
        text = read_file(folder, "pid").decode("ascii", "replace")
        first, _, rest = text.partition("\n")
        words = [int(word) for word in first.split()[:6] if word.isdigit() and len(word) < MOST_DIGITS]
        # Of one that a disk has cut the last number may be the half of one; with its start time a leader is known.
        # On a node without python3 there is no keeper, and no older asyncdeploy had one.
        self.is_cut = len(words) not in (4, 6) or not rest.endswith("\n")
        self.leader, self.leader_start = [*words, 0, 0][:2]
        self.holders = [] if self.is_cut else list(zip(words[2::2], words[3::2]))
        self.place = rest.strip()
        self.known = bool(text) or os.path.exists(os.path.join(folder, "pid"))

    def leader_lives(self):
        return proc.is_same(self.leader, self.leader_start)

    def holder(self):
        """Return the pid of who holds the job, its supervisor or the keeper in its place; 0 where both are gone."""
        return next((pid for pid, start in self.holders if proc.is_same(pid, start)), 0)

    def elsewhere(self):
        """Return the name of another machine that shares our home and started the job, "" if it was this one."""
        if not self.known or self.is_here():
            return ""
        host = proc.host_of(self.place)
        return host if host != os.uname().nodename else ""  # else an earlier boot of this one

    def is_here(self):
        return proc.is_here(self.place)


def running_in(site, ids=None):
    """Return the ids of the jobs that run in a site; one of another machine runs until that one has written its end."""
    site, asked = os.path.realpath(site), live_jobs.ids() if ids is None else ids
    return [job_id + where for job_id in asked for where in runs_in(path_of(job_id), site)]


def runs_in(folder, site):
    """Return where a job runs, if it runs in a site: "" here, or " on HOST"."""
    if os.path.exists(os.path.join(folder, "exit")):
        return ()
    pids = Pids(folder)
    host = pids.elsewhere()
    if not host and not pids.leader_lives():
        return ()
    spec = read_json(folder, "spec.json")
    its = spec.get("site") if isinstance(spec, dict) else None
    if not isinstance(its, str) or os.path.realpath(its) != site:
        return ()
    return (" on " + host if host else "",)
