"""The sites of this account and the environments in them: which nobody uses, and how they are taken away.

Runs on a node, loaded by clean.py: Python >= 3.8, standard library only.

Of a site goes what a push has put there and nobody has changed since, by the same journal as a push's own removals:
killed in between, the next push or cleaning finishes it. What a person or a run has left there stays.
"""

import fcntl
import os

from asyncdeploy.node_side import files, job_folder, proc
from asyncdeploy.node_side.push import places
from asyncdeploy.node_side.push.site_folder import Site
from asyncdeploy.node_side.push.site_record import META, Record, Refused
from asyncdeploy.node_side.push.swap import Deaf, Swap, finish_journal

SEARCHED = 2  # folders below the home in which sites of an older asyncdeploy are looked for
LINKS_DEEP = 4  # folders below a site in which a project's .venv may lie
IN_USE = "%s runs in it"
LEFT = "%d files that we did not bring, or that were changed, stay"


def finds(worker):
    """Yield (kind, path, when it was last used, remove) of environments that nobody is led to, and of sites."""
    running = run_paths()
    for path in sorted(known()):
        if not os.path.isfile(os.path.join(path, META, b"state")):
            continue
        yield "site", path, last_used(path), site_removal(worker, path, running)
        links = [os.path.realpath(link) for link in venv_links(path)]
        for venv in venvs(path):
            if os.path.realpath(venv) not in links:
                yield "environment", venv, newest_of(venv, venv + b".lock"), venv_removal(venv, running)


def known():
    """Return the paths of all sites that we know of: those that pushes noted, those of jobs, those in the home."""
    found = set(places.noted())
    for job_id in job_folder.ids():
        spec = job_folder.read_json(job_folder.path_of(job_id), "spec.json")
        if isinstance(spec, dict) and isinstance(spec.get("site"), str):
            found.add(os.fsencode(spec["site"]))
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


def names_in(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def last_used(path):
    """Return when a site was last pushed to, made ready, or run in by a job."""
    meta = os.path.join(path, META)
    times = [newest_of(meta, *(os.path.join(meta, name) for name in (b"state", b"env", b"lock")))]
    for job_id in job_folder.ids():
        folder = job_folder.path_of(job_id)
        spec = job_folder.read_json(folder, "spec.json")
        if isinstance(spec, dict) and spec.get("site") == os.fsdecode(path):
            times.append(newest_of(*(os.path.join(folder, name) for name in ("exit", "log", "pid"))))
    return max(times)


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

    def remove(dry_run):
        held = "a program" if any(map(is_held, venvs(path))) else ""
        who = user_of(path, running) or next(iter(job_folder.running_in(os.fsdecode(path))), held)
        if who:
            return IN_USE % who
        site = Site(path)
        try:
            site.open(False)
            site.take_lock(worker, 0.0, None)
            return empty(worker, site, dry_run)
        except Refused as refused:
            return " ".join(field.decode("utf-8", "replace") for field in refused.fields[2:4]) or "it is in use"
        except OSError as error:
            return os.strerror(error.errno)
        finally:
            site.close()

    return remove


def empty(worker, site, dry_run):
    """Take away what was pushed and is as it was; return why something stays."""
    if not dry_run:
        finish_journal(worker, site)
    state = site.read_record(b"state")
    if state is None:
        return "what was pushed there is not known any more"
    entries = {entry.path: entry for entry in state.entries}
    ours = {path for path, entry in entries.items() if is_as_it_was(worker, site, entry)}
    folders = {os.path.dirname(path) for path in ours} | {b""}
    others = len(strangers(site, ours, folders))
    if dry_run:
        return LEFT % others if others else ""
    kept = [entry for path, entry in entries.items() if path not in ours]
    record = Record(state.project, b"", kept, sorted(ours), state.label)
    site.write_record(b"journal", record, True)
    remove_made(site.path, folders)
    Swap(Deaf(worker), site, record, False).run()
    for name in names_in(os.path.join(site.path, META)):
        if name not in (b"lock", b"state"):
            remove_all(os.path.join(site.path, META, name))
    if others:
        return LEFT % others
    remove_all(os.path.join(site.path, META))
    try:
        os.rmdir(site.path)
    except OSError:
        pass  # somebody has just put something there
    places.forget(site.path)
    return ""


def is_as_it_was(worker, site, entry):
    """Whether an entry stands as a push has put it there, or is gone."""
    found = site.look(entry.path)
    if found is None or entry.holds(found):
        return True
    return found.st_size == entry.size and site.content_of(worker, entry.path, found) == entry.content()


def strangers(site, ours, folders):
    """Return the paths in a site that were neither pushed nor made from what was, as bytecode and .venv are.

    Args: ours (the pushed paths that are as they were), folders (those they lie in).
    """
    found, waiting = [], [b""]
    while waiting:
        folder = waiting.pop()
        for name in names_in(os.path.join(site.path, folder)):
            path = os.path.join(folder, name)
            whole = os.path.join(site.path, path)
            if path == META or (folder in folders and is_made(site.path, whole, name)):
                continue
            if os.path.isdir(whole) and not os.path.islink(whole):
                waiting.append(path)
            elif path not in ours:
                found.append(path)
    return found


def is_made(site, path, name):
    """Whether it was made by Python, or by what makes an environment: a link to one of ours, the lock that uv wrote."""
    if name == b".venv" and os.path.islink(path):
        return os.readlink(path).startswith(os.path.join(site, META, b""))
    if name == b"uv.lock":
        return os.path.isfile(os.path.join(site, META, b"uv.lock.made"))
    return name == b"__pycache__" and os.path.isdir(path) and not os.path.islink(path)


def remove_made(site, folders):
    """Remove what was made from what was pushed, in the folders that this lay in."""
    for folder in folders:
        for name in names_in(os.path.join(site, folder)):
            path = os.path.join(site, folder, name)
            if is_made(site, path, name):
                remove_all(path)


def remove_all(path):
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            os.unlink(path)
        except OSError:
            pass  # it is gone already, or the folder is not to be written to: then it stays, and is counted
