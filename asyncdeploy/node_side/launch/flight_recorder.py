"""Read what torch's flight recorder has written of a rank's collectives.

Runs on a node, loaded by stacks.py: Python >= 3.8, standard library only. Torch writes a pickle a rank when its
watchdog sees a collective that takes too long. The file is read here, by an unpickler that makes numbers, texts and
lists of them and nothing else, at the worst 70 times its size.
"""

import io
import os
import pickle
import stat
import time

from asyncdeploy.node_side import proc

MOST_BYTES = 16 << 20  # torch's default of 2,000 entries makes 2 MB
MOST_NUMBER = 1 << 63
ROUNDED_S = 1.0  # what clocks of different fineness may differ by
WORDS = (  # of pickle's language
    *(pickle.PROTO, pickle.FRAME, pickle.MARK, pickle.STOP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
    *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.SHORT_BINBYTES, pickle.BINBYTES),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.LIST),
    *(pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
)
NAMES = (b"TORCH_FR_DUMP_TEMP_FILE", b"TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
DEFAULTS = ("~/.cache/torch/comm_lib_trace_rank_", "/tmp/nccl_trace_rank_")


class Plain(pickle._Unpickler):
    """Makes plain data only.

    It is pickle's own reader in Python: the one in C gives memory for as many places as the file says that there are,
    before there is anything to put into them.
    """


Plain.dispatch = {word[0]: pickle._Unpickler.dispatch[word[0]] for word in WORDS}


def recorders(rows):
    """Return what was written since each rank began: {rank, path, last}; last is its newest entry, or None."""
    found = []
    for row in rows:
        if row["rank"] is None:
            continue
        started = start_of(row["pid"])
        named = [os.fsdecode(row["environ"][name]) for name in NAMES if row["environ"].get(name)]
        for prefix in [*named, *map(os.path.expanduser, DEFAULTS)]:
            path = prefix + str(row["rank"])
            data = own_file(path, started)
            if data:
                found.append({"rank": row["rank"], "path": path, "last": last_entry(data)})
                break
    return found


def own_file(path, since):
    """Return what a file holds that we have written since, b"" where it is another run's, somebody else's, or empty."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # in /tmp anybody may have put anything there
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        known = stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid() and info.st_mtime >= since
        return file.read(MOST_BYTES) if known and info.st_size <= MOST_BYTES else b""


def start_of(pid):
    """Return when a process began, in seconds since 1970; infinity for one that is gone.

    The kernel counts that from the start of the machine. What the folder /proc/PID is dated by is when somebody looked
    at it first, or again after it was short of memory.
    """
    row = proc.process(pid)
    if row is None:
        return float("inf")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - row.start / os.sysconf("SC_CLK_TCK")
    return time.time() - age - ROUNDED_S


def last_entry(data):
    """Return the newest collective that has not ended, else the newest: {name, state, seq, frames}."""
    try:
        entries = Plain(io.BytesIO(data)).load()["entries"]
        entries = [entry for entry in entries if isinstance(entry, dict)]
    except Exception:  # a file that is being written, or that torch writes otherwise
        return None
    waiting = [entry for entry in entries if entry.get("state") != "completed"]
    if not entries:
        return None
    entry = (waiting or entries)[-1]
    frames = entry.get("frames")
    rows = [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []
    return {
        "name": told(entry.get("profiling_name"), 200),
        "state": told(entry.get("state"), 40),
        "seq": told(entry.get("collective_seq_id", entry.get("seq_id")), 20),
        "frames": [[told(frame.get(name), 400) for name in ("filename", "line", "name")] for frame in rows[:20]],
    }


def told(value, most):
    """Return a text or a number as a short text; lists that hold each other would take for ever to write out."""
    known = isinstance(value, str) or (isinstance(value, int) and abs(value) <= MOST_NUMBER)
    return str(value)[:most] if known else "None"
