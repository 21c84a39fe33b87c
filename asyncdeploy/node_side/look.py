"""Say what could disturb the ranks of a launch on this node: variables of others' launches, and who holds its GPUs.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are JSON: "pattern" of the names,
"nvidia_smi" where it is, or nothing. Returned: {"stray": [name], "gpu_users": [[uuid, pid, bytes, program]]}.
"""

import json
import os
import re

WAIT_S = 5.0  # nvidia-smi hangs where a driver does
MOST = 64


def main(_worker, args):
    wanted = json.loads(args)
    pattern = re.compile(wanted["pattern"])
    stray = sorted(name for name in os.environ if pattern.match(name))[:MOST]
    return json.dumps({"stray": stray, "gpu_users": gpu_users(wanted.get("nvidia_smi"))}).encode()


def gpu_users(nvidia_smi):
    """Return who computes on the GPUs, as far as nvidia-smi can see: pids of other containers have no name here."""
    if not nvidia_smi:
        return []
    import subprocess

    words = [nvidia_smi, "--query-compute-apps=gpu_uuid,pid,used_memory,process_name", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=WAIT_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else []


def parse(text):
    found = []
    for line in text.splitlines()[:MOST]:
        parts = [part.strip() for part in line.split(",", 3)]
        if len(parts) == 4 and parts[1].isdigit():
            used = int(parts[2]) << 20 if parts[2].isdigit() else 0  # "[N/A]" in some containers
            found.append([parts[0], int(parts[1]), used, parts[3]])
    return found
