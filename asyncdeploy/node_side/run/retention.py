"""Of what has ended a bounded number is kept for a bounded time; a supervisor sees to it when its own job is done.

Runs on a node, loaded by supervisor.py and clean.py: Python >= 3.8, standard library only.

Nobody waits for it, and it looks at nothing while there is little: a start and a stop cost the same after 10,000 jobs.
"""

import os
import time

from asyncdeploy.node_side import files, live_jobs
from asyncdeploy.node_side.locks import Lock

KEPT = 1000  # ended jobs, and launches, of this account
KEPT_S = 30 * 86400.0
KEPT_ALWAYS = 100  # the newest, however old they look: a clock may have been set
AT_ONCE = 200  # removed by one supervisor; the next one goes on
LOOK_S = 86400.0  # between two looks at how old things are, while there are few
GONE = ".gone-"  # what is being removed: under another name first, so that nobody finds half of it

LOOKED = ".looked"
OURS = (".live", ".names", LOOKED, ".cleaner")  # beside the folders, and to stay


def keep_bounded():
    """Remove what ended longest ago: of jobs and of launches."""
    for kind in ("jobs", "launches"):
        try:
            folder = files.own_path(kind)
            names = [name for name in os.listdir(folder) if not name.startswith(".")]
            if len(names) <= KEPT_ALWAYS or (len(names) <= KEPT and not _is_time(folder)):
                continue
            lock = Lock(os.path.join(folder, ".cleaner"))
            try:
                if lock.is_free():  # else somebody is at it
                    os.nice(10)  # whoever starts or pushes meanwhile goes first
                    _keep(kind, folder, names)
            finally:
                lock.close()
        except OSError:
            continue  # a full or broken disk; the next one tries again


def _keep(kind, folder, names):
    now = disk_now(folder)
    ended = sorted((at, name) for name, at in ended_at(kind, names))
    late = [name for at, name in ended if at < now - KEPT_S]
    for name in ended_names(ended, late)[:AT_ONCE]:
        remove(os.path.join(folder, name))
    for left in os.listdir(folder):
        if left.startswith(GONE):  # of one who died over it
            remove_tree(os.path.join(folder, left))


def ended_names(ended, late):
    """Return what goes, the oldest first: all that is late, and what is above the number that is kept."""
    return [name for _, name in ended[: max(min(len(late), len(ended) - KEPT_ALWAYS), len(ended) - KEPT)]]


def _is_time(folder):
    """Whether nobody has looked for a day."""
    try:
        return abs(time.time() - os.stat(os.path.join(folder, LOOKED)).st_mtime) > LOOK_S
    except FileNotFoundError:
        return True


def disk_now(folder):
    """Return what time it is by the clock of the disk, which the times of its files are told by."""
    path = os.path.join(folder, LOOKED)
    files.write_whole(path, b"")
    return os.stat(path).st_mtime


def ended_at(kind, names):
    """Yield (name, when it ended) of what has ended and may go; what may still run, on any machine, is not among it."""
    live = set(live_jobs.ids())
    if kind == "launches":
        live = {launch_of(job_id) for job_id in live}
    for name in names:
        folder = files.own_path(kind, name)
        try:
            yield name, os.stat(os.path.join(folder, "exit")).st_mtime
        except OSError:
            at = newest(folder)  # a launch, or a job that was lost with its machine: nobody wrote its end
            if at and name not in live:
                yield name, at


def launch_of(job_id):
    """Return the launch that a rank's job belongs to: "train.3-abcdefgh" to "train-abcdefgh"."""
    name, _, suffix = job_id.rpartition("-")
    return "%s-%s" % (name.rpartition(".")[0], suffix)


def newest(folder):
    """Return when a folder, or something directly in it, was last changed; 0 where there is none."""
    try:
        paths = [folder, *(os.path.join(folder, name) for name in os.listdir(folder))]
        return max(os.lstat(path).st_mtime for path in paths)
    except OSError:
        return 0


def remove(folder):
    """Remove a folder, or as much of it as can be; nobody finds a part of it under its own name."""
    above, name = os.path.split(folder)
    gone = os.path.join(above, "%s%s.%s" % (GONE, name[:100], os.urandom(8).hex()))
    try:
        os.rename(folder, gone)
    except OSError:
        return False
    remove_tree(gone)
    live_jobs.leave(name)
    return True


def remove_tree(path):
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
