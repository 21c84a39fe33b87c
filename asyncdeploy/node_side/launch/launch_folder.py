"""Keep a launch's description on its nodes, so that any machine that reaches one of them finds the whole launch.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are a word, a NUL, the launch's
id, a NUL and, for "tools", JSON: sources by their paths below the launch's folder "tools", for "next" the id of the
attempt that followed; for "keep" the id of the attempt before or nothing, a NUL, a length, a NUL, so many bytes of text
(compressed by the client; here it is only bytes) and what "tools" takes: one call at a start. "find" returns the text
of the last attempt, or nothing where there is none; "watch" and "leave" come from who would start it again, "ahead"
returns "watched" while there is such a one, else the id of what followed; the others return nothing.
"""

import os
import time

from asyncdeploy.node_side import files

MOST_ATTEMPTS = 1000
MOST_ID = 1000  # bytes
LEASE_S = 90.0  # for so long somebody watches who has said so; he says it every 20 s
MAX_TEXT = 1 << 20  # a frame; compressed, 1,000 nodes need about a tenth of it


def main(_worker, args):
    word, launch_id, text = args.split(b"\0", 2)
    place = ("launches", launch_id.decode("ascii"))
    folder = files.own_folder(*place) if word in (b"keep", b"tools", b"next") else files.own_path(*place)
    path = os.path.join(folder, "launch.json")
    # Nodes may share a home: each writes a file of its own, and the last of the equal ones stays.
    if word == b"keep":
        before, size, rest = text.split(b"\0", 2)
        files.write_whole(path, rest[: int(size)])
        keep_tools(os.path.join(folder, "tools"), rest[int(size) :])
        if before:
            note_next(files.own_folder("launches", before.decode("ascii")), launch_id)
    elif word == b"tools":
        keep_tools(os.path.join(folder, "tools"), text)
    elif word == b"next":
        note_next(folder, text)
    elif word == b"forget":
        forget(folder, path)
    elif word == b"watch":
        hold(folder)
    elif word == b"leave":
        let_go(folder)
    elif word == b"ahead":
        return b"watched" if is_watched(folder) else next_of(folder).encode()
    else:
        return files.read(last_of(folder), MAX_TEXT)
    return b""


def note_next(folder, launch_id):
    files.write_whole(os.path.join(folder, "next"), launch_id)


def keep_tools(folder, text):
    import json

    for name, source in json.loads(text).items():
        place = files.make_own(folder)
        for part in name.split("/")[:-1]:
            place = files.make_own(os.path.join(place, part))
        files.write_whole(os.path.join(folder, name), source.encode())


def forget(folder, path):
    import shutil

    shutil.rmtree(os.path.join(folder, "tools"), ignore_errors=True)
    for remove, target in ((os.unlink, path), (os.rmdir, folder)):
        try:
            remove(target)
        except OSError:
            return  # another node on a shared home was first, or a rank's log stands there


def hold(folder):
    if os.path.isdir(folder):
        path, now = os.path.join(folder, "watched"), time.time()
        files.write_whole(path, b"")
        os.utime(path, (now, now))  # by our clock: that of a home on a network may be another one


def let_go(folder):
    try:
        os.unlink(os.path.join(folder, "watched"))
    except FileNotFoundError:
        pass  # another node on a shared home was first


def is_watched(folder):
    """Whether somebody watches who would start it again, or is just doing that."""
    try:
        return abs(time.time() - os.stat(os.path.join(folder, "watched")).st_mtime) < LEASE_S
    except FileNotFoundError:
        return False


def next_of(folder):
    """Return the id of the attempt that followed, "" where none is known."""
    return os.path.basename(files.text(os.path.join(folder, "next"), MOST_ID))


def last_of(folder):
    """Return the description's path of the last attempt that is known here; one that is just being started is none."""
    for _ in range(MOST_ATTEMPTS):
        name = next_of(folder)
        following = os.path.join(os.path.dirname(folder), name)
        if not name or is_watched(folder) or not os.path.exists(os.path.join(following, "launch.json")):
            break  # the last, or one that was never started
        folder = following
    return os.path.join(folder, "launch.json")
