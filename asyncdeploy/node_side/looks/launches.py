"""Tell which launches lie here, what they are, and what their ranks do. Looks only.

Runs on a node inside the worker: Python >= 3.8, standard library only. The argument is JSON with an "op":

ids    the newest launches, each [id, sha256 of its description]; earlier attempts of one that was started again are
       left out. The answer is an object with "launches" and "left", how many more there are.
texts  the descriptions of the launches "ids", each in a frame D of its own, the id and a NUL before it.
jobs   the states of the jobs "jobs", in their order, each in a frame D, as JSON; with the end of its log.

What is no launch of ours is passed over: other folders, other files, a description that is none.
"""

import json
import os
import stat

from asyncdeploy.node_side import files, job_folder
from asyncdeploy.node_side.launch import launch_folder
from asyncdeploy.node_side.run.job_state import status_of

MOST = 5000  # launches of an answer: a frame holds them
TAIL = 4096  # bytes of a log's end: a line or some


def main(worker, args):
    request = json.loads(args)
    if request["op"] == "ids":
        return json.dumps(newest(request["newest"])).encode()
    if request["op"] == "texts":
        for launch_id in request["ids"]:
            worker.send(b"D", launch_id.encode() + b"\0" + description(launch_id))
    else:
        for job_id in request["jobs"]:
            worker.send(b"D", json.dumps(job(job_id)).encode())
    return b"{}"


def newest(count):
    """Return the launches that are here, the last to be started first."""
    import hashlib

    base = files.own_path("launches")
    try:
        names = [name for name in os.listdir(base) if not name.startswith(".")]
    except OSError:
        names = []
    found = []
    for name in names:
        folder = os.path.join(base, name)
        path = os.path.join(folder, "launch.json")
        if is_file(path) and launch_folder.last_of(folder) == path:
            found.append((os.stat(path).st_mtime, name))
    found.sort(reverse=True)
    told = found[: min(count, MOST)]
    launches = [[name, hashlib.sha256(description(name)).hexdigest()] for _, name in told]
    return {"launches": launches, "left": len(found) - len(told)}


def is_file(path):
    """Whether it is a plain file: what else somebody put there would hold up who reads it."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def description(launch_id):
    path = files.own_path("launches", os.path.basename(launch_id), "launch.json")
    return files.read(path, launch_folder.MAX_TEXT - 1000) if is_file(path) else b""


def job(job_id):
    """Return a job's state and the end of its log, with when that was written."""
    try:
        now = status_of(job_id)
    except (OSError, ValueError):
        return {"error": "unknown"}
    now.pop("spec", None)
    path = os.path.join(job_folder.path_of(job_id), "log")
    if is_file(path):
        now["wrote_at"], now["tail"] = tail(path)
    return now


def tail(path):
    """Return when a file was written last, and its end."""
    with open(path, "rb") as file:
        info = os.fstat(file.fileno())
        file.seek(max(0, info.st_size - TAIL))
        return info.st_mtime, file.read(TAIL).decode("utf-8", "replace")
