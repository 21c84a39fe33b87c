"""Wait until a Dask cluster has all its workers; print which nodes lack some, as a line of JSON.

Stands on a node as the launch's ``tools/dask_nodes.py``, and is run as a driver by the environment's Python. Arguments:
seconds, then of each node its name and how many workers it must have, 0 for any. Prints their numbers: [] when all are
there.
"""

import asyncio
import json
import os
import sys
import time

PAUSE_S = 0.1


def lacking(wanted, names):
    """Return the numbers of the nodes of which a worker is missing; a node's workers are called NAME or NAME-<n>."""
    counts = [sum(name == node or name.rpartition("-")[0] == node for name in names) for node, _ in wanted]
    return [number for number, count in enumerate(counts) if count < max(1, wanted[number][1])]


def main(seconds, *words):
    from distributed import Client

    wanted = [(name, int(count)) for name, count in zip(words[::2], words[1::2])]

    # One call that waits there: the scheduler's log has a line for each.
    async def look(dask_scheduler):
        end = time.monotonic() + float(seconds)
        while True:
            missing = lacking(wanted, [str(worker.name) for worker in dask_scheduler.workers.values()])
            if not missing or time.monotonic() > end:
                return missing
            await asyncio.sleep(PAUSE_S)

    with Client(timeout=float(seconds)) as client:
        return client.run_on_scheduler(look)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    print(json.dumps({"missing": main(*sys.argv[1:])}))
