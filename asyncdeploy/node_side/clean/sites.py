"""The sites of this account and the environments in them: which nobody uses, and how they are taken away.

Runs on a node, loaded by clean.py: Python >= 3.8, standard library only.

Of a site goes what a push has put there and nobody has changed since, by the same journal as a push's own removals:
killed in between, the next push or cleaning finishes it. What a person or a run has left there stays.
"""

import fcntl
import os

from asyncdeploy.node_side import files, job_folder, proc
from asyncdeploy.node_side.clean.emptying import empty, names_in, remove_all
from asyncdeploy.node_side.locks import Lock
from asyncdeploy.node_side.push import places
from asyncdeploy.node_side.push.site_folder import Site
from asyncdeploy.node_side.push.site_record import META, Refused

SEARCHED = 2  # folders below the home in which sites of an older asyncdeploy are looked for
LINKS_DEEP = 4  # folders below a site in which a project's .venv may lie
IN_USE = "%s runs in it"


def finds(worker):
    """Yield (kind, path, when it was last used, remove) of environments that nobody is led to, and of sites."""
    running, by_jobs = run_paths(), used_by_jobs()
    for path in sorted(known(by_jobs)):
        if not os.path.isfile(os.path.join(path, META, b"state")):
            continue
        at = max(last_used(path), by_jobs.get(path, 0.0))
        yield "site", path, at, site_removal(worker, path, running)
        links = [os.path.realpath(link) for link in venv_links(path)]
        for venv in venvs(path):
            if os.path.realpath(venv) not in links:
                yield "environment", venv, newest_of(venv, venv + b".lock"), venv_removal(venv, running)


def used_by_jobs():
    """Return {site: when a job in it last wrote} of all jobs that say where they run."""
    found = {}
    for job_id in job_folder.ids():
        folder = job_folder.path_of(job_id)
        site = (job_folder.read_json(folder, "spec.json") or {}).get("site")
        if isinstance(site, str) and site.startswith("/"):
            at = newest_of(*(os.path.join(folder, name) for name in ("exit", "log", "pid")))
            path = os.path.normpath(os.fsencode(site))
            found[path] = max(at, found.get(path, 0.0))
    return found


def known(by_jobs):
    """Return the paths of all sites that we know of: those that pushes noted, those of jobs, those in the home."""
    found = {*places.noted(), *by_jobs}
    waiting = [(os.fsencode(files.home()), 0)]
    while waiting:
        folder, depth = waiting.pop()
        for name in names_in(folder):
            path = os.path.join(folder, name)
            if name.startswith(b".") or os.path.islink(path) or not os.path.isdir(path):
                continue
            if os.path.isfile(os.path.join(path, META, b"state")):
                found.add(path)
            elif depth + 1 < SEARCHED:
                waiting.append((path, depth + 1))
    return {os.path.normpath(path) for path in found if path.startswith(b"/")}


def last_used(path):
    """Return when a site was last pushed to or made ready."""
    meta = os.path.join(path, META)
    return newest_of(meta, *(os.path.join(meta, name) for name in (b"state", b"env", b"lock")))


def newest_of(*paths):
    times = [0.0]
    for path in paths:
        try:
            times.append(os.lstat(path).st_mtime)
        except OSError:
            continue
    return max(times)


def venvs(path):
    """Return the folders of environments that uv_sync.sh has made in a site."""
    meta = os.path.join(path, META)
    folders = [os.path.join(meta, name) for name in names_in(meta) if name.startswith(b"venv-")]
    every = [os.path.join(folder, name) for folder in folders for name in names_in(folder)]
    return sorted(path for path in every if os.path.isfile(os.path.join(path, b"pyvenv.cfg")))


def venv_links(path):
    """Yield every .venv of a site that is a link."""
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop()
        for name in names_in(folder):
            each = os.path.join(folder, name)
            if os.path.islink(each):
                if name == b".venv":
                    yield each
            elif name != META and depth < LINKS_DEEP and os.path.isdir(each):
                waiting.append((each, depth + 1))


def run_paths():
    """Return {path: "PID NAME"} of where our processes work, what they run and what their variables name."""
    found = {}
    own = family()
    for pid in proc.pids():
        if pid in own:
            continue
        row = proc.process(pid)
        if row is None or row.has_ended():
            continue
        who = "%d %s" % (pid, row.name.decode("utf-8", "replace"))
        for name in ("cwd", "exe"):
            try:
                found[os.readlink(os.fsencode("/proc/%d/%s" % (pid, name)))] = who
            except OSError:
                continue
        for name in (b"VIRTUAL_ENV", b"PWD"):
            value = proc.environ(pid).get(name)
            if value:
                found[value] = who
    return found


def family():
    """Return us and those that started us: a worker's variables may name any place."""
    found, pid = set(), os.getpid()
    while pid and pid not in found:
        found.add(pid)
        row = proc.process(pid)
        pid = row.parent if row else 0
    return found


def user_of(path, running):
    """Return "PID NAME" of a process that works in a folder, "" where none does."""
    real = os.path.realpath(path)
    inside = (who for place, who in running.items() if place == real or place.startswith(real + b"/"))
    return next(inside, "")


def is_held(venv):
    """Whether a program holds an environment by its lock, as uv_enter.sh does for whatever runs in it."""
    try:
        fd = os.open(venv + b".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this file system: what we see of processes has to do
    finally:
        os.close(fd)
    return False


def venv_removal(venv, running):
    """Return what removes an environment unless somebody runs in it."""

    def remove(dry_run):
        who = user_of(venv, running)
        if who:
            return IN_USE % who
        lock = venv + b".lock"
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry_run:
                os.rename(venv, venv + b".gone")
                os.unlink(lock)
        except BlockingIOError:
            return IN_USE % "a program"
        except OSError as error:
            return os.strerror(error.errno)
        finally:
            os.close(fd)
        if not dry_run:
            remove_all(venv + b".gone")
        return ""

    return remove


def site_removal(worker, path, running):
    """Return what removes a site's files and environments, unless somebody is at work there."""

    def user():
        held = "a program" if any(map(is_held, venvs(path))) else ""
        return user_of(path, running) or next(iter(job_folder.running_in(os.fsdecode(path))), held)

    def remove(dry_run):
        site, mark = Site(path), None
        try:
            if dry_run:
                who = user()
            else:
                running.update(run_paths())  # what has begun since we looked
                who, mark = held_off(worker, path, user)
            if who:
                return IN_USE % who
            site.open(False)
            site.take_lock(worker, 0.0, None)
            return empty(worker, site, dry_run)
        except Refused as refused:
            return " ".join(field.decode("utf-8", "replace") for field in refused.fields[2:4]) or "it is in use"
        except OSError as error:
            return os.strerror(error.errno)
        finally:
            site.close()
            if mark is not None:
                let_in(mark)

    return remove


def held_off(worker, path, user):
    """Return who uses a site, "" where nobody does, and then a lock that keeps jobs from being started there."""
    starts = job_folder.starts_lock()
    try:
        starts.take(worker.poll)  # a start is let through to its end: then its job is seen
        who = user()
        if who:
            return who, None
        mark = Lock(job_folder.emptying_path(os.fsdecode(path)))
        if mark.is_free():
            return "", mark
        mark.close()
        return "another cleaning", None
    finally:
        starts.close()


def let_in(mark):
    try:
        os.unlink(mark.path)
    except FileNotFoundError:
        pass  # the site is gone
    mark.close()
