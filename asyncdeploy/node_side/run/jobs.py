"""Detached jobs: a folder a job is the truth, a supervisor a job keeps it.

Runs on a node inside the worker: Python >= 3.8, standard library only. The call's argument is JSON with an "op": start,
status, wait, stop, list or read. The answer is JSON too; what a client must tell apart stands in "error".

~/.asyncdeploy/jobs/<id>/ holds: spec.json (what it is; of secrets only the names), pid (leader, supervisor and keeper,
each with its start time; the node's identity below), sessions (those that were seen), log, times (when a launch's log
grew), stop (a request), exit (how it ended). Each is written under another name and renamed; whoever makes the folder
starts the job.
"""

import _signal as signal
import errno
import json
import os
import time

from asyncdeploy.node_side import job_folder as folders, live_jobs, processes
from asyncdeploy.node_side.input import NoRoom, take_input
from asyncdeploy.node_side.locks import Lock
from asyncdeploy.node_side.run import guard, keeper, log_times as times, outlive, supervisor
from asyncdeploy.node_side.run.job_state import ALIVE, RUNS, status_of, status_of_started
from asyncdeploy.node_side.run.process_tree import KILL_WAIT_S, ON_END_S, TICK_S

TERM = signal.SIGTERM
END_S = KILL_WAIT_S + ON_END_S + 2.0  # for a supervisor that was asked, after the grace; then for its keeper
ENDED = ("exited", "signalled")
LAST_PAUSE_S = 0.25  # between two looks at a job that goes on: each reads a few files
WAIT_SLICE_S = 60.0  # a wait answers at least so often; the client asks again
READ_LIMIT = 512 * 1024
PAGE = 256 * 1024  # of a list; with one more job it stays far below what a frame holds
LINE_SHOWN = 2000  # of a job's line, in a list


def main(worker, args):
    request = json.loads(args)
    try:
        answer = OPERATIONS[request["op"]](worker, request)
    except OSError as error:  # of the home: to make a folder is what only a start needs
        if request["op"] == "start" or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EROFS):
            raise
        answer = NOTHING.get(request["op"], {"error": "unknown"})
    return json.dumps(answer).encode()


def start(worker, request):
    """Start a job once, however often it is asked for; return its status."""
    spec, job_id = request["spec"], request["spec"]["id"]
    env = receive_env(worker)
    try:
        stdin = take_input(worker)
    except NoRoom as error:
        return {"error": "failed", "reason": str(error)}
    lock = None
    try:
        folder = folders.folder_of(job_id)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass  # another try of this start: whoever has the lock first starts the job, not who made the folder
        lock = Lock(os.path.join(folder, "lock"))
        lock.take(worker.poll)
        if folders.Pids(folder).known or folders.read_json(folder, "exit") is not None:
            return status_of(job_id)
        names = folders.starts_lock()
        try:
            names.take(worker.poll)  # two starters of one name must see each other
            live_jobs.enter(job_id)
            twin = running_twin(spec)
            if twin:
                remove_folder(job_id, folder)
                return {"error": "exists", "id": twin}
            site = folders.being_emptied(spec)
            if site:
                remove_folder(job_id, folder)
                return {"error": "failed", "reason": "its site %s is just being cleaned away" % site}
            worker.poll()  # a node that was frozen meanwhile: whoever asked for it may be gone
            reason = keeper.launch(folder, spec, env, stdin, outlive.step_of(worker, ask_to_stop))
        finally:
            names.close()
        if reason:
            left = guard.end_orphans(folder, job_id, 0.0)  # of a start that broke off in its middle, too
            if left:
                return {"error": "failed", "reason": "%s; process %d of it cannot be ended" % (reason, left[0][0])}
            remove_folder(job_id, folder)
            return {"error": "failed", "reason": reason}
        outlive.hold(worker, job_id, ask_to_stop)
        return dict(status_of_started(job_id), **outlive.said())
    finally:
        os.close(stdin)
        if lock is not None:
            lock.close()


def receive_env(worker):
    """Return the variables, which come in a frame of their own and never touch a file."""
    kind, payload = worker.receive()
    if kind != b"V":
        raise ValueError("the variables were expected")
    return [item for item in payload.split(b"\0") if item]


def running_twin(spec):
    """Return the id of a running job of the same name on the same site, or None."""
    for other in live_jobs.ids():
        if other == spec["id"]:
            continue
        state = status_of(other).get("state")
        if state not in RUNS:
            live_jobs.leave(other)
        theirs = folders.read_json(folders.folder_of(other), "spec.json") if state in ALIVE else {}
        if theirs and theirs.get("name") == spec["name"] and theirs.get("site") == spec["site"]:
            return other
    return None


def remove_folder(job_id, folder):
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    live_jobs.leave(job_id)


def status(_worker, request):
    return status_of(request["id"])


def wait(worker, request):
    """Wait until the job ended, for a while; return its status."""
    for _ in looks(worker, float(request["timeout_s"])):
        now = status_of(request["id"])
        alone = now.get("state") == "orphaned" and not request.get("orphans", True)
        if alone or (now.get("state") not in ALIVE and not now.get("unfinished")):
            break
    return now


def looks(worker, wait_s):
    """Yield again and again, less and less often, for so long or for as long as a call may wait; at least once."""
    deadline, pause = time.monotonic() + min(wait_s, WAIT_SLICE_S), 0.02
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        worker.poll()
        time.sleep(pause)
        pause = min(pause * 1.5, LAST_PAUSE_S)


def stop(worker, request):
    """End a job and everything of it; return its status, with what survived."""
    folder = folders.folder_of(request["id"])
    now = end(worker, request, folder)
    if request.get("undo") and now.get("state") in ENDED:
        guard.dismiss(folder, worker.poll)
    return now


def end(worker, request, folder):
    job_id, grace = request["id"], float(request["grace_s"])
    before = status_of(job_id)
    if before.get("error") == "unknown" and request.get("forbid"):
        return forbid(worker, folder, job_id)
    if before.get("state") == "orphaned":
        return end_orphans(worker, folder, job_id, grace)
    if before.get("state") not in ("starting", "running"):
        return before
    ask_to_stop(folder, grace, request.get("because"))
    for patience in (grace + END_S, END_S, 0.0):
        now = await_stop(worker, folder, job_id, patience)
        if now.get("state") == "orphaned":
            return end_orphans(worker, folder, job_id, grace)
        if now.get("state") not in ("starting", "running") and not now.get("unfinished"):
            return now
        # It was asked, has had its time, and does not do it (it hangs on a disk, say): then its keeper does, or we.
        holder = folders.Pids(folder).holder()
        if holder:
            processes.tell(holder, signal.SIGKILL)
    return end_orphans(worker, folder, job_id, 0.0)


def await_stop(worker, folder, job_id, patience):
    """Ask whoever holds a job to end it, and wait for that; return the job's status."""
    deadline = time.monotonic() + patience
    asked = 0
    while True:
        holder = folders.Pids(folder).holder()
        if holder and holder != asked:
            processes.tell(holder, TERM)
            asked = holder
        if holder:
            processes.wake(holder)
        now = status_of(job_id)
        done = now.get("state") not in ("starting", "running") and not now.get("unfinished")
        if done or time.monotonic() >= deadline:
            return now
        worker.poll()
        time.sleep(TICK_S)


def ask_to_stop(folder, grace, because=None):
    """Write down what is asked for; where the disk is full, into the room that was taken for it at the start."""
    asked = {"grace_s": grace}
    try:
        folders.write_file(folder, "stop", json.dumps({**asked, "because": because}).encode())
    except OSError:
        try:
            folders.fill(folder, "stop", json.dumps(asked).encode(), supervisor.STOP_BYTES)
        except OSError:
            pass  # an earlier stop has used it, or the disk is read-only: the supervisor has a grace of its own


def forbid(worker, folder, job_id):
    """Take the folder of a job that is about to be started by a call we have given up: it then finds its end there."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return status_of(job_id)
    lock = Lock(os.path.join(folder, "lock"))
    try:
        lock.take(worker.poll)  # a start that has just seen the folder is let through to its end, or finds ours
        if not folders.Pids(folder).known:
            write_forbidden(folder)
    finally:
        lock.close()
    return status_of(job_id)


def write_forbidden(folder):
    end = {"status": None, "signal": TERM, "ended_at": time.time(), "survivors": [], "stopped": True}
    folders.write_file(folder, "exit", json.dumps(end).encode())


def end_orphans(worker, folder, job_id, grace):
    """End a job whose supervisor is gone; nobody knows its exit status any more."""
    left = guard.end_orphans(folder, job_id, grace, worker.poll)
    now = status_of(job_id)
    now["survivors"] = ["%d %s" % (pid, name.decode("utf-8", "replace")) for pid, name in left]
    return now


def list_all(_worker, request):
    """Return a page of the jobs there are, in the order of their ids, and where there are more, its last id."""
    found, size = [], 0
    for job_id in folders.ids():
        if job_id <= request.get("after", ""):
            continue
        if size > PAGE:
            return {"jobs": found, "next": found[-1]["id"]}
        now = listed(job_id)
        if now is not None:
            found.append(now)
            size += len(json.dumps(now))
    return {"jobs": found}


def listed(job_id):
    """Return a job's status as a list shows it; None of what is no job's folder."""
    try:
        now = status_of(job_id)
    except (OSError, ValueError, KeyError):
        return None  # a folder that somebody else made, or that is just going
    spec = now.get("spec")
    if not isinstance(spec, dict) or spec.get("id") != job_id:
        return None
    spec["line"] = str(spec.get("line"))[:LINE_SHOWN]
    spec.pop("on_end", None)
    return now


def read(worker, request):
    """Return a piece of the log from a byte offset, waiting up to wait_s for one; and whether the job ended."""
    folder, offset = folders.folder_of(request["id"]), int(request["offset"])
    limit = min(int(request.get("limit", READ_LIMIT)), READ_LIMIT)
    for _ in looks(worker, float(request.get("wait_s", 0))):
        state = status_of(request["id"]).get("state", "lost")  # before the log, so that its end is the end
        try:
            with open(os.path.join(folder, "log"), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if offset > size:
                    offset = 0  # somebody emptied it; what is written now stands at its beginning
                file.seek(offset if offset >= 0 else max(0, size + offset))
                place = file.tell()
                data = file.read(limit)
        except OSError:
            size = place = 0
            data = b""
        if data or state not in ALIVE:
            break
    marks = times.marks_between(folder, place, place + len(data)) if request.get("times") else []
    if len(marks) == times.AT_ONCE:  # what follows is for the next call
        data = data[: max(marks[-1][0] - place, 0)]
    for start_at in range(0, len(data), 1 << 18):
        worker.send(b"D", data[start_at : start_at + (1 << 18)])
    return {"offset": place, "size": size, "state": state, "times": marks}


# What is known of jobs where there is no home for their folders; of one job that it is unknown.
NOTHING = {"list": {"jobs": []}, "read": {"offset": 0, "size": 0, "state": "lost", "times": []}}
OPERATIONS = {"start": start, "status": status, "wait": wait, "stop": stop, "list": list_all, "read": read}
