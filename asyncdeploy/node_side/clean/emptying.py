"""A site is emptied: what a push put there and nobody has changed goes, by the journal of a push.

Runs on a node, loaded by sites.py: Python >= 3.8, standard library only.
"""

import os

from asyncdeploy.node_side.push import places
from asyncdeploy.node_side.push.site_record import META, Record
from asyncdeploy.node_side.push.swap import Deaf, Swap, finish_journal

HOME = b"home"  # of whoever runs in a container and has none there: what programs left in it is theirs
LEFT = "%d files that we did not bring, or that were changed, stay"


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
    others = len(strangers(site, ours, folders)) + len(names_in(os.path.join(site.path, META, HOME)))
    if dry_run:
        return LEFT % others if others else ""
    kept = [entry for path, entry in entries.items() if path not in ours]
    record = Record(state.project, b"", kept, sorted(ours), state.label)
    site.write_record(b"journal", record, True)
    remove_made(site.path, folders)
    Swap(Deaf(worker), site, record, False).run()
    for name in names_in(os.path.join(site.path, META)):
        if name not in (b"lock", b"state", b"cleaning", HOME):
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


def names_in(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
