"""Wait until a Ray cluster has all its nodes; print which are missing, as a line of JSON.

Stands on a node as the launch's ``tools/ray_nodes.py``, and is run as a driver by the environment's Python. Arguments:
seconds, then the names of the nodes. Prints their numbers: [] when all are there.
"""

import json
import os
import sys
import time

PAUSE_S = 0.1


def main(seconds, *names):
    import ray

    end = time.monotonic() + float(seconds)
    ray.init(log_to_driver=False, configure_logging=False)
    while True:
        alive = {node["NodeName"] for node in ray.nodes() if node["Alive"]}
        missing = [number for number, name in enumerate(names) if name not in alive]
        if not missing or time.monotonic() > end:
            return missing
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    print(json.dumps({"missing": main(*sys.argv[1:])}))
