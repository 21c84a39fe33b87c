"""Keep a launch's description on its nodes, so that any machine that reaches one of them finds the whole launch.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are a word, a NUL, the launch's
id, a NUL and, for "keep", the text (compressed by the client; here it is only bytes). "keep" and "forget" return
nothing, "find" the text, or nothing where there is none.
"""

import os

MAX_TEXT = 1 << 20  # a frame; compressed, 1,000 nodes need about a tenth of it


def main(_worker, args):
    word, launch_id, text = args.split(b"\0", 2)
    folder = os.path.join(os.path.expanduser("~"), ".asyncdeploy", "launches", launch_id.decode("ascii"))
    path = os.path.join(folder, "launch.json")
    if word == b"keep":
        keep(folder, path, text)
    elif word == b"forget":
        forget(folder, path)
    else:
        return find(path)
    return b""


def keep(folder, path, text):
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # Nodes may share a home: each writes a file of its own, and the last of the equal ones stays.
    partial = "%s.%d-%s" % (path, os.getpid(), os.urandom(4).hex())
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
    os.rename(partial, path)


def forget(folder, path):
    for remove, target in ((os.unlink, path), (os.rmdir, folder)):
        try:
            remove(target)
        except OSError:
            return  # another node on a shared home was first, or a rank's log stands there


def find(path):
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TEXT)
    except OSError:
        return b""
