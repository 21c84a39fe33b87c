"""Say what could disturb the ranks of a launch on this node: others' variables, who holds its GPUs, full disks.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are JSON: "pattern" of the names,
"nvidia_smi" where it is, or nothing, "folder" of the project. Returned: {"stray": [name], "gpu_users": [[uuid, pid,
bytes, program]], "gpu_used": [[uuid, bytes]], "visible": what the login environment lets CUDA see, or null, "free":
bytes of the folder's disk, "shared_memory": bytes; -1 unknown}.
"""

import json
import os
import re

from asyncdeploy.node_side import gpus

MOST = 256  # names; Slurm alone sets sixty


def main(_worker, args):
    wanted = json.loads(args)
    pattern = re.compile(wanted["pattern"])
    found = {
        "stray": sorted(name for name in os.environ if pattern.match(name))[:MOST],
        "gpu_users": gpus.users(wanted.get("nvidia_smi")),
        "gpu_used": gpus.used(wanted.get("nvidia_smi")),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
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
