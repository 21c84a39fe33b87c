"""How a job ended, written down whatever its disk does.

Runs on a node, loaded by supervisor.py: Python >= 3.8, standard library only.
"""

import json
import time

from asyncdeploy.node_side import job_folder as folders

ROOM = 4096  # bytes, reserved at the start, so that a full disk does not lose the end
RETRY_S = (0.05, 0.2, 1.0, 5.0, 15.0)  # a disk that fails once may not fail again
SHORTENED = ("survivors", "gpu_left", "path", "because")  # for people: what is said of them may be cut


def reserve(folder):
    folders.reserve(folder, "exit", ROOM)


def write(folder, end):
    """Write an end into the room that was taken for it, or else where there is some; whether it stands."""
    data = fitted(end)
    for pause in (*RETRY_S, None):
        for way in (lambda: folders.fill(folder, "exit", data, ROOM), lambda: folders.write_file(folder, "exit", data)):
            try:
                way()
                return True
            except OSError:
                continue
        if pause is not None:
            time.sleep(pause)
    return False


def fitted(end):
    """Return an end as JSON that the room holds."""
    while len(json.dumps(end).encode()) > ROOM:
        name = max(SHORTENED, key=lambda name: len(json.dumps(end.get(name))))
        if not end.get(name):
            break
        end = dict(end, **{name: end[name][: len(end[name]) // 2]})
    return json.dumps(end).encode()


def add_gpus_left(folder, end, before):
    """Add to an end that is written down which GPUs still have memory in use that was free before.

    The driver may never answer, and on a full disk the end stands as it is.
    """
    from asyncdeploy.node_side import gpus

    end["gpu_left"] = gpus.left_in_use(before["nvidia_smi"], before["used"])[:50]
    del end["asks_until"]
    try:
        folders.write_file(folder, "exit", fitted(end))
    except OSError:
        return
