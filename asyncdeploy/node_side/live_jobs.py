"""Which jobs may run, so that a start and a push need not read the folders of thousands that have ended.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.

~/.asyncdeploy/jobs/.live/ holds an empty file named by each job's id. It is made before the job starts; whoever looks
later and finds that the job has ended takes it away. So a job that runs is always named here, and one that is named
may have ended.
"""

import os

from asyncdeploy.node_side import files

LIVE = ".live"


def enter(job_id):
    """Name a job that is about to start."""
    path = os.path.join(_folder(files.own_folder("jobs")), job_id)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def leave(job_id):
    """Take away the name of a job that has ended, or was never started."""
    try:
        os.unlink(files.own_path("jobs", LIVE, job_id))
    except OSError:
        pass  # somebody else has, or the disk is read-only: it is looked at again the next time


def ids():
    """Return the ids of the jobs that may run, in their order."""
    jobs = files.own_path("jobs")
    try:
        return sorted(os.listdir(_folder(jobs)))
    except FileNotFoundError:
        return []  # there was never a job
    except OSError:
        return without_end(jobs)  # a home that cannot be written to


def without_end(jobs):
    """Return the ids of all jobs that have written no end, which takes a look at each."""
    names = sorted(name for name in os.listdir(jobs) if not name.startswith("."))
    return [name for name in names if not os.path.exists(os.path.join(jobs, name, "exit"))]


def _folder(jobs):
    """Return the folder of the names, made where an older asyncdeploy made none."""
    folder = os.path.join(jobs, LIVE)
    if os.path.isdir(folder):
        return folder
    names = without_end(jobs)
    new = "%s.%s" % (folder, os.urandom(8).hex())
    os.mkdir(new, 0o700)
    for name in names:
        os.close(os.open(os.path.join(new, name), os.O_WRONLY | os.O_CREAT, 0o600))
    try:
        os.rename(new, folder)
    except OSError:  # another one was quicker, and has more names by now
        import shutil

        shutil.rmtree(new, ignore_errors=True)
    return folder
