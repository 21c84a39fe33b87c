"""Print what an environment has for an engine, as a line of JSON: its Python, the engine's version, shared memory.

Given to the environment's own interpreter, whatever it is, as its program. Argument: the engine's distribution. A
version of "" is an engine that is not there, shared memory of -1 one that nobody knows.
"""

import os
import sys


def main(package):
    sys.path[:] = [path for path in sys.path if path]  # a project's json.py is none of ours
    import json
    import platform
    from importlib import metadata

    seen = {"python": platform.python_version(), "engine": "", "shared_memory": -1}
    try:
        seen["engine"] = metadata.version(package)
    except metadata.PackageNotFoundError:
        pass  # that is what is said
    try:
        disk = os.statvfs("/dev/shm")
        seen["shared_memory"] = disk.f_blocks * disk.f_frsize
    except OSError:
        pass  # as above
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
