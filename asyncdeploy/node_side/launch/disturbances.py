"""Say what could disturb the ranks of a launch on this node: others' variables, who holds its GPUs, full disks.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are JSON: "pattern" of the names,
"nvidia_smi" where it is, or nothing, "folder" of the project. Returned: {"stray": [name], "gpu_users": [[uuid, pid,
bytes, program]], "gpu_used": [[uuid, bytes]], "free": bytes of the folder's disk, "shared_memory": bytes; -1 unknown}.
"""

import json
import os
import re

WAIT_S = 5.0  # nvidia-smi hangs where a driver does
MOST = 64
LEFT = 1 << 30  # bytes: more than a driver keeps for itself, less than any rank


def main(_worker, args):
    wanted = json.loads(args)
    pattern = re.compile(wanted["pattern"])
    found = {
        "stray": sorted(name for name in os.environ if pattern.match(name))[:MOST],
        "gpu_users": parse(ask(wanted.get("nvidia_smi"), "compute-apps=gpu_uuid,pid,used_memory,process_name")),
        "gpu_used": parse_used(ask(wanted.get("nvidia_smi"), "gpu=uuid,memory.used")),
        "free": space(wanted["folder"])[0],
        "shared_memory": space("/dev/shm")[1],
    }
    return json.dumps(found).encode()


def space(path):
    """Return what is free for a plain user, and the size, in bytes, of the disk that holds a path or would."""
    while True:
        try:
            disk = os.statvfs(path)
            return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        except OSError:
            if path in ("/", ""):
                return -1, -1
            path = os.path.dirname(path)


def ask(nvidia_smi, query):
    """Return what nvidia-smi says: of processes as far as it can see, for those of other containers have no pid."""
    if not nvidia_smi:
        return ""
    import subprocess

    words = [nvidia_smi, "--query-" + query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=WAIT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def parse(text):
    found = []
    for line in text.splitlines()[:MOST]:
        parts = [part.strip() for part in line.split(",", 3)]
        if len(parts) == 4 and parts[1].isdigit():
            used = int(parts[2]) << 20 if parts[2].isdigit() else 0  # "[N/A]" in some containers
            found.append([parts[0], int(parts[1]), used, parts[3]])
    return found


def parse_used(text):
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()[:MOST]]
    return [[row[0], int(row[1]) << 20] for row in rows if len(row) == 2 and row[1].isdigit()]


def more_used(wanted):
    """Return in words which GPUs have more memory in use than before a run, while nobody is seen who computes there.

    wanted: "nvidia_smi", and "used": [[uuid, bytes]] of before. A GPU on which somebody is seen is that one's.
    """
    before = dict(wanted["used"])
    seen = {row[0] for row in parse(ask(wanted["nvidia_smi"], "compute-apps=gpu_uuid,pid,used_memory,process_name"))}
    rows = parse_used(ask(wanted["nvidia_smi"], "gpu=uuid,memory.used"))
    more = [(index, used - before.get(uuid, used)) for index, (uuid, used) in enumerate(rows) if uuid not in seen]
    return ["GPU %d: %.1f GiB" % (index, extra / 2.0**30) for index, extra in more if extra >= LEFT]
