"""Say where the ranks of a job are that still run, without stopping one: the stacks of their threads.

Runs on a node inside the worker: Python >= 3.8, standard library only. The argument is JSON with the job's id; the
answer is JSON too. With "op": "silence", and the launch and the node rank, it is {"silent_s"}: for how long nothing was
added to the logs of the job and of its ranks, null where there is none. With "op": "stacks" it is:

processes: of each rank the uppermost that is Python (where no process has a rank: all Pythons), else the uppermost,
with rank and local_rank as its environment says, pid, name, state, wchan (what of the kernel it waits in; "kernel" is
its stack there, for root), and in "dump" what "source" wrote: "faulthandler" (rank_shim.py) or "py-spy".
recorders: what torch's flight recorder wrote, see flight_recorder.py. gpus: what nvidia-smi says, a line each.
"""

import json
import os
import time

from asyncdeploy.node_side import files, gpus, job_folder, proc, tools
from asyncdeploy.node_side.launch import flight_recorder as recorder, rank_evidence

MOST_PROCESSES = 256  # of one node; it has as many GPUs as fingers, and ranks on CPUs only in tests
MOST_FILES = 4096  # open files of a process that are looked at; ours is among the first
MOST_DUMP = 128 * 1024  # of one process; a hundred threads need half of it
MOST_ANSWER = 900 * 1024  # a frame holds 1 MiB
DUMP_S = 2.0  # a process that has not written by then hangs in the kernel
QUIET_S = 0.1  # a dump that has not grown for so long is whole: it is written by one handler without a pause
LOOK_S = 0.02
TOOL_S = 10.0  # py-spy reads the symbols of all libraries first
ASKING = 23  # SIGURG, see rank_shim.py


def main(worker, args):
    request = json.loads(args)
    if request["op"] == "silence":
        return json.dumps({"silent_s": silence(request["job"], request["launch"], request["node_rank"])}).encode()
    found = ranks_of(request["job"].encode())
    ask(worker, found)
    for row in found:
        if not row["dump"]:
            spy(row)
    answer = {"processes": found, "gpus": gpu_lines(), "recorders": recorder.recorders(found)}
    for row in found:
        del row["environ"], row["file"]
    data = json.dumps(answer).encode()
    while len(data) > MOST_ANSWER:
        for row in found:
            row["dump"], row["kernel"] = row["dump"][: len(row["dump"]) // 2], ""
        data = json.dumps(answer).encode()
    return data


def silence(job, launch, node_rank):
    """Return for how long nothing was printed: what has no line end yet stands in a rank's own log only."""
    own = rank_evidence.log_files(files.own_path("launches", launch, "rank-%d" % node_rank))
    times = []
    for path in [job_folder.path_of(job, "log"), *(path for _, path in own)]:
        try:
            times.append(os.stat(path).st_mtime)
        except OSError:
            continue
    return max(0.0, time.time() - max(times)) if times else None


# --- which processes ----------------------------------------------------------------


def ranks_of(job):
    """Return a row for each process that stands for a rank."""
    table = proc.table()
    environs = {pid: proc.environ(pid) for pid, row in table.items() if not row.has_ended()}
    environs = {pid: environ for pid, environ in environs.items() if environ.get(b"ASYNCDEPLOY_JOB") == job}
    # Anybody may give his process these variables: root sees them all, and must not believe them.
    roots = roots_of(os.fsdecode(job), table)
    environs = {pid: environs[pid] for pid in environs if proc.is_ours(pid) and belongs(pid, table, roots)}
    files = {pid: stack_file(pid) for pid in environs}
    ranks = {pid: environ.get(b"RANK", b"") for pid, environ in environs.items()}
    chosen = {}
    # Uppermost first: what a rank starts has its variables too, and a shell may stand above its Python.
    for pid in sorted(environs, key=lambda pid: (len(line_of(pid, table)), pid)):
        if ranks[pid].isdigit():
            known = chosen.get(ranks[pid])
            if known is None or (not looks_python(known, files) and looks_python(pid, files)):
                chosen[ranks[pid]] = pid
    pids = list(chosen.values()) or [pid for pid in sorted(environs) if looks_python(pid, files)]
    return [describe(pid, table[pid], environs[pid], files[pid]) for pid in pids[:MOST_PROCESSES]]


def roots_of(job, table):
    """Return the pids of a job's leader and of those who hold it, as far as they live."""
    pids = job_folder.Pids(job_folder.path_of(job))
    known = dict([(pids.leader, pids.leader_start), *pids.holders])
    return {pid for pid, start in known.items() if pid in table and table[pid].start == start}


def belongs(pid, table, roots):
    """Whether a process is below a job's own ones, or in a container, which the engine has started."""
    return bool(roots.intersection(line_of(pid, table))) or proc.is_apart(pid)


def line_of(pid, table):
    """Return a process and all above it."""
    line = []
    while pid in table and len(line) < len(table):
        line.append(pid)
        pid = table[pid].parent
    return line


def looks_python(pid, files):
    if files[pid] is not None:
        return True
    try:
        return os.path.basename(os.readlink("/proc/%d/exe" % pid)).startswith("python")
    except OSError:
        return False


def stack_file(pid):
    """Return the number of the file into which a process writes its stacks when asked, None if it must not be asked.

    The file's name holds the pid by which the process knows itself: a fork has its parent's file, and is not asked.
    """
    status = status_of(pid)
    own = (status.get("NSpid") or status.get("Pid") or "").split()[-1:]
    if not own or not int(status.get("SigCgt", "0"), 16) >> (ASKING - 1) & 1:
        return None
    wanted = "/memfd:asyncdeploy-stacks-%s (deleted)" % own[0]
    try:
        for number in sorted(map(int, os.listdir("/proc/%d/fd" % pid)))[:MOST_FILES]:
            if os.readlink("/proc/%d/fd/%d" % (pid, number)) == wanted:
                return number
    except OSError:
        pass  # it has ended, or closed a file meanwhile: then another look would come too late as well
    return None


def status_of(pid):
    return dict(line.partition(":")[::2] for line in files.text("/proc/%d/status" % pid).splitlines())


def describe(pid, row, environ, file):
    words = files.text("/proc/%d/cmdline" % pid, 400).replace("\0", " ").strip()

    def number(name):
        return int(environ[name]) if environ.get(name, b"").isdigit() and len(environ[name]) < 7 else None

    return {
        "pid": pid,
        "rank": number(b"RANK"),
        "local_rank": number(b"LOCAL_RANK"),
        "name": words or row.name.decode("utf-8", "replace"),
        "state": row.state.decode("ascii", "replace"),
        "wchan": files.text("/proc/%d/wchan" % pid, 200),
        "kernel": files.text("/proc/%d/stack" % pid, 4000),
        "source": "",
        "dump": "",
        "environ": environ,
        "file": file,
    }


# --- what they say ------------------------------------------------------------------


def ask(worker, rows):
    """Have every rank that can write its stacks, all at once."""
    waiting = {}
    for row in rows:
        if row["file"] is not None:
            before = position(row)
            if before is not None and stack_file(row["pid"]) == row["file"]:
                try:
                    os.kill(row["pid"], ASKING)
                except OSError:
                    continue  # it has ended
                waiting[row["pid"]] = [row, before, before, time.monotonic()]
    deadline = time.monotonic() + DUMP_S
    while waiting and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        worker.poll()
        for pid, state in list(waiting.items()):
            row, before, seen, since = state
            now = position(row)
            if now is None:
                del waiting[pid]  # it has ended meanwhile
            elif now != seen:
                state[2:] = now, time.monotonic()
            elif now > before and time.monotonic() - since >= QUIET_S:
                take(row, before)
                del waiting[pid]
    for row, before, seen, _ in waiting.values():
        if seen > before:  # it is still writing: what there is
            take(row, before)


def position(row):
    """Return how far a process has written its file, None if it has none any more."""
    text = files.text("/proc/%d/fdinfo/%d" % (row["pid"], row["file"]))
    words = text.split()
    return int(words[1]) if words[:1] == ["pos:"] else None


def take(row, start):
    path = "/proc/%d/fd/%d" % (row["pid"], row["file"])
    try:
        with open(path, "rb+") as file:
            file.seek(start)
            data = file.read()
            file.truncate(0)  # the memory is given back; the next dump stands behind a hole
    except OSError:
        return
    if len(data) > MOST_DUMP:  # the main thread comes last
        data = data[: MOST_DUMP // 2] + b"\n...\n" + data[-MOST_DUMP // 2 :]
    row["dump"], row["source"] = data.decode("utf-8", "replace"), "faulthandler"


def spy(row):
    """Take the stacks of a Python that cannot be asked, where py-spy can: read from outside, without stopping it."""
    paths = [os.environ.get("PATH", "")]
    if not proc.is_apart(row["pid"]):  # the environment's own; a container's path says nothing of this machine
        paths.insert(0, os.fsdecode(row["environ"].get(b"PATH", b"")))
    tool = tools.find_trusted("py-spy", [place for path in paths for place in path.split(":")])
    if tool and looks_python(row["pid"], {row["pid"]: None}):
        words = [tool, "dump", "--nonblocking", "--pid", str(row["pid"])]
        # An old one has no full names.
        text = tools.ask([*words, "--full-filenames"], TOOL_S) or tools.ask(words, TOOL_S)
        if text:
            row["dump"], row["source"] = text[-MOST_DUMP:], "py-spy"


def gpu_lines():
    found = gpus.rows("nvidia-smi", ("index", "utilization.gpu", "memory.used", "memory.total"))
    return [", ".join(row) for row in found]
