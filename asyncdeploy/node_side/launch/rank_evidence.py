"""Gather what a node's ranks left behind when they failed: exceptions, exits, last words, signs of the OOM killer.

Runs on a node inside the worker: Python >= 3.8, standard library only. The argument is JSON: the launch's id, the node
rank, the job's id. The answer is JSON: records (rank_shim.py), exits (rank_runner.py), error_files (torchelastic's
error.json), logs (the end of each rank's stderr, of its stdout where that is empty), oom (see oom_evidence).
"""

import json
import os
import re

from asyncdeploy.node_side import files, job_folder

MOST_FILES = 512  # of each kind
MOST_BYTES = 64 * 1024  # of one record
TAIL = 6 * 1024  # of each log; a traceback's end is far below it
MOST_LINES = 100000  # of the kernel's log
MOST_ANSWER = 900 * 1024  # a frame holds 1 MiB


def main(_worker, args):
    request = json.loads(args)
    folder = files.own_path("launches", request["launch"], "rank-%d" % request["node_rank"])
    answer = {"records": records(os.path.join(folder, "errors")), "exits": exits(os.path.join(folder, "exits"))}
    answer["error_files"], answer["logs"] = rank_files(folder)
    answer["oom"] = oom_evidence(job_folder.path_of(request["job"], "exit"))
    data = json.dumps(answer).encode()
    while len(data) > MOST_ANSWER and any(answer[name] for name in ("logs", "records", "error_files")):
        for name in ("logs", "records", "error_files"):
            answer[name] = answer[name][: len(answer[name]) // 2]
        data = json.dumps(answer).encode()
    return data


def read_json(path):
    try:
        found = json.loads(files.read(path, MOST_BYTES))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def records(folder):
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))[:MOST_FILES]
    except OSError:
        return []
    found = [read_json(os.path.join(folder, name)) for name in names]
    return sorted((record for record in found if isinstance(record.get("at"), float)), key=lambda record: record["at"])


def exits(path):
    found = []
    for line in files.read(path, MOST_BYTES).splitlines()[:MOST_FILES]:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # it was being written when its writer was killed
    return found


def rank_files(folder):
    """Return torchelastic's error files and the ends of the logs, of stdout only where stderr is empty."""
    errors, logs = [], {}
    for local, path in log_files(folder, ("error.json", "stderr.log", "stdout.log")):
        place, name = os.path.split(path)
        if name == "error.json":
            errors.append({"local_rank": local, "path": path, "error": read_json(path)})
        elif place not in logs and len(logs) < MOST_FILES:
            text = tail(path)
            if text.strip():
                logs[place] = {"local_rank": local, "path": path, "text": text}
    return errors, list(logs.values())


def log_files(folder, wanted=("stderr.log", "stdout.log")):
    """Return (local rank, path) of the files so called, in this order in each folder: of every folder that has a local
    rank's number, and of the uppermost, which belongs to no rank."""
    found = []
    for place, folders, names in os.walk(folder):
        if place.count(os.sep) - folder.count(os.sep) >= 4:
            del folders[:]
        name = os.path.basename(place)
        local = int(name) if name.isdigit() else None
        if (local is not None or place == folder) and len(found) < 3 * MOST_FILES:
            found += [(local, os.path.join(place, name)) for name in wanted if name in names]
    return found


def tail(path):
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            return file.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


def oom_evidence(path):
    """Return how many processes were killed for memory while the job ran, and what the kernel's log says of them.

    ``cgroup`` counts those of the job's own memory cgroup, ``machine`` those of the machine, ``killed`` is
    {pid: line} where the kernel's log may be read.
    """
    end = read_json(path)
    counts = end.get("oom_kills")
    found = dict(counts) if isinstance(counts, dict) else {}
    found["killed"] = killed_for_memory() if any(found.values()) else {}
    return found


def killed_for_memory():
    found = {}
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return found  # not for us to read, or a container
    try:
        for _ in range(MOST_LINES):
            try:
                line = os.read(fd, 8192).decode("utf-8", "replace")
            except BrokenPipeError:
                continue  # lines were overwritten before we came to them
            seen = re.search(r"((?:Memory cgroup out|Out) of memory: Killed process ([0-9]+) .*)", line)
            if seen:
                found[seen.group(2)] = seen.group(1)[:300]
    except OSError:
        pass  # its end, for now
    finally:
        os.close(fd)
    return found
