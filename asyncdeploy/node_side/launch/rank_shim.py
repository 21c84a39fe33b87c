"""Write down which uncaught exception ended a rank, then let it end as it would have; say where it is when asked.

Stands on a node as the launch's ``tools/python/sitecustomize.py``, which every Python below a rank finds through
PYTHONPATH, whatever its age: what is written here every Python from 2.7 on must be able to read, or it would start
without the site's own sitecustomize; before 3.8 no more is done than that. Standard library only, and nothing but
modules that are loaded or built in at each start.

A rank that is asked by SIGURG writes the stacks of all its threads into a file in memory, which stacks.py finds among
its open files. It is C code that writes: a rank that hangs in a library answers too. SIGURG, because nobody means it:
schedulers and training scripts take USR1, USR2, HUP and TERM, profilers PROF, libraries the real-time ones; and because
by default it is ignored, so that one which comes to a process without us, or after us, does nothing at all. A script
that takes the signal itself gets it, and is asked no more: the open file is the sign that a rank may be asked.
"""

import os
import sys

MOST_RECORDS = 256  # a rank whose helpers die in a loop must not fill the disk
MOST_TEXT = 16 * 1024
MOST_FRAMES = 40
LIBRARY = os.path.dirname(os.__file__)
ASKING = 23  # SIGURG on Linux; where it is another one, there is no file in memory either


def make_way():
    """Leave the path, run the sitecustomize that ours has hidden, and return our own module, which it replaces."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != here]
    sys.path_importer_cache.pop(here, None)
    ours = sys.modules.pop(__name__, None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault(__name__, ours)
    return ours


def watch(folder):
    before = sys.excepthook  # also that of a sitecustomize which does not call the one it replaces

    def noting(kind, value, trace):
        path = sys.path
        try:
            # What the folder of the program calls json.py or traceback.py is not what we mean.
            sys.path = [place for place in path if place.startswith(LIBRARY) and "-packages" not in place]
            note(folder, kind, value, trace)
        except BaseException:  # the program's own end is not ours to disturb
            pass
        finally:
            sys.path = path
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
    # A path as it stands on the disk: Python has taken its bytes for letters of the node's locale.
    frames = [(as_utf8(frame.filename), frame.lineno, frame.name) for frame in traceback.extract_tb(trace)]
    if isinstance(value, SyntaxError):
        frames.append((as_utf8(value.filename or "?"), value.lineno or 0, "<module>"))
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


def as_utf8(path):
    return os.fsencode(path).decode("utf-8", "replace")


def answer():
    """Have SIGURG write our stacks into a file in memory, until the program takes the signal for itself."""
    import _signal
    import faulthandler

    file = os.memfd_create("asyncdeploy-stacks-%d" % os.getpid())
    faulthandler.register(ASKING, file, all_threads=True, chain=False)
    before, itself, kept = _signal.signal, os.fstat(file), [file]

    def signal(*args):
        if args[:1] == (ASKING,) and kept:
            faulthandler.unregister(ASKING)
            number = kept.pop()
            try:
                if os.path.samestat(os.fstat(number), itself):  # a program that closes all may have given it away
                    os.close(number)
            except OSError:
                pass  # it is closed already
        return before(*args)

    signal.__doc__, signal.__name__, signal.__qualname__ = before.__doc__, before.__name__, before.__qualname__
    _signal.signal = signal


OURS = make_way()  # Python 2 empties a module that nobody holds
if os.environ.get("ASYNCDEPLOY_ERRORS") and sys.version_info >= (3, 8):
    watch(os.environ["ASYNCDEPLOY_ERRORS"])
    try:
        answer()
    except Exception:  # no Linux, or no CPython: then it cannot be asked
        pass
