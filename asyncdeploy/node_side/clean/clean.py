"""Find what this account's deployments left here and nobody has used for long, and remove it.

Runs on a node inside the worker: Python >= 3.8, standard library only. The argument is JSON: older_than_s, dry_run. We
send D frames, each a JSON list of what was removed (or would be): kind, path, bytes, idle_s and "kept", the reason why
it had to stay, in words. Returned: JSON {}.

Each find is looked at again as it is removed, under the locks that its users hold: what runs stays.
"""

import json
import os
import time

from asyncdeploy.node_side import files
from asyncdeploy.node_side.clean import sites
from asyncdeploy.node_side.clean.sizes import size_of
from asyncdeploy.node_side.run import retention

ROWS = 200  # in one frame
PARTS_S = 86400.0  # a half-written file is nobody's by then


def main(worker, args):
    request = json.loads(args)
    now, oldest = now_here(), float(request["older_than_s"])
    rows, going = [], b"/nowhere/"  # of a site that goes its environments are counted with it
    for kind, path, at, remove in finds(worker):
        worker.poll()
        if now - at < oldest or (kind == "environment" and path.startswith(going)):
            continue
        size, kept = size_of(worker, path), remove(request["dry_run"])
        if not request["dry_run"]:
            size -= size_of(worker, path)
        if kind == "site" and not kept.endswith(sites.IN_USE % ""):
            going = os.path.join(path, b"")
        rows.append({"kind": kind, "path": os.fsdecode(path), "bytes": size, "idle_s": now - at, "kept": kept})
        if len(rows) == ROWS:
            worker.send(b"D", json.dumps(rows).encode())
            rows = []
    worker.send(b"D", json.dumps(rows).encode())
    return b"{}"


def now_here():
    """Return the time by the home's disk, which need not have our clock; ours, where nothing can be written."""
    try:
        return retention.disk_now(files.own_folder())
    except OSError:
        return time.time()


def finds(worker):
    """Yield (kind, path, when it was last used, remove(dry_run) -> why it stays, or "") of all that we know of."""
    yield from sites.finds(worker)  # before the jobs, which know of some
    for kind, folder in (("job", "jobs"), ("launch", "launches")):
        yield from ended(kind, folder)
    for kind, folder in (("tool", "tools"), ("image", "images")):
        for path in listed(files.own_path(folder)):
            yield kind, path, retention.newest(path), removal(path)
    yield from parts()


def ended(kind, folder):
    """Yield jobs or launches that are over."""
    names = [os.path.basename(path) for path in listed(files.own_path(folder))]
    for name, at in retention.ended_at(folder, names):
        path = files.own_path(folder, name)
        yield kind, path, at, removal(path)


def parts():
    """Yield what was never finished: files that somebody wrote who died, folders that somebody was removing."""
    for folder in ("jobs", "launches", "sites", "tools", "images"):
        for name in quiet_list(files.own_path(folder)):
            path = files.own_path(folder, name)
            at = retention.newest(path)
            if name.startswith(".") and name not in retention.OURS and time.time() - at > PARTS_S:
                yield "part", path, at, removal(path)


def removal(path):
    """Return what removes a file or a folder of ours."""

    def remove(dry_run):
        return "" if dry_run or retention.remove(path) else "it cannot be removed"

    return remove


def listed(folder):
    return [os.path.join(folder, name) for name in quiet_list(folder) if not name.startswith(".")]


def quiet_list(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
