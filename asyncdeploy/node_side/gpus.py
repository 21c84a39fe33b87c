"""What nvidia-smi says of a node's GPUs. A driver in trouble is no GPU: whoever asks learns nothing, and in time.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import time

from asyncdeploy.node_side import tools

MOST = 256  # rows: the client takes no more GPUs
MOST_DIGITS = 9  # a petabyte in MiB, or a process's number
LEFT = 1 << 30  # bytes: more than a driver keeps for itself, less than any rank
LEFT_WAIT_S, LEFT_LOOK_S = 3.0, 0.2  # a driver frees memory a moment after the end of who held it


def rows(tool, fields, of="gpu"):
    """Return what nvidia-smi prints for a query, a list of texts a row: at most MOST rows of tools.MOST bytes.

    Args: tool (where it is, "" where it is not), fields (as it names them, the last may hold commas), of ("gpu", or
    "compute-apps": as far as it can see them, for processes of other containers have no pid).
    """
    if not tool:
        return []
    text = tools.ask([tool, "--query-%s=%s" % (of, ",".join(fields)), "--format=csv,noheader,nounits"])
    found = [[cell.strip() for cell in line.split(",", len(fields) - 1)] for line in text.splitlines()[:MOST]]
    return [row for row in found if len(row) == len(fields)]


def number(cell):
    """Return the number in a cell, None where it holds none that can be true: "[N/A]", or -1 read as unsigned."""
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) <= MOST_DIGITS else None


def size(cell):
    """Return what a cell says in MiB, in bytes; 0 for "[N/A]", which some containers see."""
    return (number(cell) or 0) << 20


def users(tool):
    """Return [uuid, pid, bytes, program] of every process that is seen to compute."""
    found = rows(tool, ("gpu_uuid", "pid", "used_memory", "process_name"), "compute-apps")
    return [[uuid, int(pid), size(used), program] for uuid, pid, used, program in found if number(pid) is not None]


def used(tool):
    """Return [uuid, bytes in use] of every GPU."""
    return [each for each in in_order(tool) if each[1] is not None]


def in_order(tool):
    """Return [uuid, bytes in use] of every GPU, None where it does not say: one in trouble keeps its place."""
    known = [(uuid, number(cell)) for uuid, cell in rows(tool, ("uuid", "memory.used"))]
    return [[uuid, None if found is None else found << 20] for uuid, found in known]


def more_used(tool, before):
    """Return in words which GPUs have more memory in use than before a run, while nobody is seen who computes there.

    Args: tool, before ([uuid, bytes in use] of each). A GPU on which somebody is seen is that one's.
    """
    known = dict(before)
    places = [(index, uuid, now) for index, (uuid, now) in enumerate(in_order(tool)) if now is not None]
    more = [(index, uuid, now - known.get(uuid, now)) for index, uuid, now in places]
    more = [row for row in more if row[2] >= LEFT]
    seen = {row[0] for row in users(tool)} if more else ()  # a driver that hangs has cost its time once already
    return ["GPU %d: %.1f GiB" % (index, extra / 2.0**30) for index, uuid, extra in more if uuid not in seen]


def left_in_use(tool, before):
    """Return the same, given the driver a moment if there is any."""
    deadline = time.monotonic() + LEFT_WAIT_S
    while True:
        left = more_used(tool, before)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(LEFT_LOOK_S)
