"""Write down which uncaught exception ended a rank, then let it end as it would have.

Stands on a node as the launch's ``tools/python/sitecustomize.py``, which every Python below a rank finds through
PYTHONPATH: Python >= 3.8, standard library only, and nothing but two modules that are loaded anyway at each start.
"""

import os
import sys

MOST_RECORDS = 256  # a rank whose helpers die in a loop must not fill the disk
MOST_TEXT = 16 * 1024
MOST_FRAMES = 40


def make_way():
    """Leave the path, and run the sitecustomize that ours has hidden."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != here]
    sys.path_importer_cache.pop(here, None)
    ours = sys.modules.pop(__name__, None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault(__name__, ours)


def watch(folder):
    before = sys.excepthook  # also that of a sitecustomize which does not call the one it replaces

    def noting(kind, value, trace):
        try:
            note(folder, kind, value, trace)
        except Exception:  # the program's own end is not ours to disturb
            pass
        before(kind, value, trace)

    sys.excepthook = noting


def note(folder, kind, value, trace):
    import json
    import time
    import traceback

    at = time.time()
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o700)
    if len(os.listdir(folder)) >= MOST_RECORDS:
        return
    name = kind.__qualname__ if kind.__module__ == "builtins" else "%s.%s" % (kind.__module__, kind.__qualname__)
    frames = [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(trace)]
    if isinstance(value, SyntaxError):
        frames.append((value.filename or "?", value.lineno or 0, "<module>"))
    record = {
        "at": at,
        "pid": os.getpid(),
        "rank": os.environ.get("RANK"),
        "local_rank": os.environ.get("LOCAL_RANK"),
        "type": name,
        "message": str(value)[:MOST_TEXT],
        "frames": frames[-MOST_FRAMES:],
        "trace": "".join(traceback.format_exception(kind, value, trace))[-MOST_TEXT:],
    }
    path = os.path.join(folder, "%d-%d" % (os.getpid(), int(at * 1000)))
    fd = os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(record, file)
    os.rename(path + ".part", path + ".json")


make_way()
if os.environ.get("ASYNCDEPLOY_ERRORS"):
    watch(os.environ["ASYNCDEPLOY_ERRORS"])
