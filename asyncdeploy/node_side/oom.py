"""How many processes the kernel has killed for lack of memory: on this machine, and in our own memory cgroup.

Runs on a node, loaded by supervisor.py: Python >= 3.8, standard library only. Who compares two counts knows what
happened in between, also where the kernel's log may not be read.
"""

import re

from asyncdeploy.node_side import files


def oom_kills():
    """Return {"machine": n, "cgroup": n}, less what this kernel does not count."""
    places = {"machine": ["/proc/vmstat"], "cgroup": own_cgroup()}
    found = {}
    for name, paths in places.items():
        for path in paths:
            count = count_of(path)
            if count is not None:
                found[name] = count
                break
    return found


def since(before):
    """Return what was killed since then, None where nothing was."""
    now = oom_kills()
    more = {name: now[name] - count for name, count in before.items() if now.get(name, 0) > count}
    return more or None


def own_cgroup():
    paths = []
    for row in files.text("/proc/self/cgroup").splitlines():
        _, kinds, place = row.strip().split(":", 2)
        # In a container the path may be the host's, while what we see of the tree begins at ours.
        for below in (place.rstrip("/"), ""):
            if kinds == "":
                paths.append("/sys/fs/cgroup%s/memory.events" % below)
            elif "memory" in kinds.split(","):
                paths.append("/sys/fs/cgroup/memory%s/memory.oom_control" % below)
    return paths


def count_of(path):
    found = re.search(r"^oom_kill ([0-9]+)$", files.text(path), re.MULTILINE)
    return int(found.group(1)) if found else None
