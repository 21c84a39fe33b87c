"""Keep a launch's description on its nodes, so that any machine that reaches one of them finds the whole launch.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are a word, a NUL, the launch's
id, a NUL and, for "keep", the text (compressed by the client; here it is only bytes), for "tools" JSON: sources by
their paths below the launch's folder "tools", for "next" the id of the attempt that followed. "find" returns the text
of the last attempt, or nothing where there is none, the others nothing.
"""

import os

MOST_ATTEMPTS = 1000
MAX_TEXT = 1 << 20  # a frame; compressed, 1,000 nodes need about a tenth of it


def main(_worker, args):
    word, launch_id, text = args.split(b"\0", 2)
    home = os.path.expanduser("~")
    folders = [os.path.join(home, ".asyncdeploy")]
    for name in ("launches", launch_id.decode("ascii")):
        folders.append(os.path.join(folders[-1], name))
    folder, path = folders[-1], os.path.join(folders[-1], "launch.json")
    if word in (b"keep", b"tools", b"next"):
        for each in folders:
            make_folder(each)
    if word == b"keep":
        keep(path, text)
    elif word == b"tools":
        keep_tools(os.path.join(folder, "tools"), text)
    elif word == b"next":
        keep(os.path.join(folder, "next"), text)
    elif word == b"forget":
        forget(folder, path)
    else:
        return find(last_of(folder))
    return b""


def make_folder(folder):
    """Make a folder that is ours and closed to others; one that somebody else put there is not used."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        info = os.lstat(folder)
        if info.st_uid != os.getuid() or (info.st_mode & 0o170000) != 0o040000:
            raise PermissionError("%s is not a folder of ours" % folder) from None


def keep(path, text):
    # Nodes may share a home: each writes a file of its own, and the last of the equal ones stays.
    partial = "%s.%d-%s" % (path, os.getpid(), os.urandom(4).hex())
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
    os.rename(partial, path)


def keep_tools(folder, text):
    import json

    for name, source in json.loads(text).items():
        path = os.path.join(folder, name)
        for each in (folder, os.path.dirname(path)):
            make_folder(each)
        keep(path, source.encode())


def forget(folder, path):
    import shutil

    shutil.rmtree(os.path.join(folder, "tools"), ignore_errors=True)
    for remove, target in ((os.unlink, path), (os.rmdir, folder)):
        try:
            remove(target)
        except OSError:
            return  # another node on a shared home was first, or a rank's log stands there


def last_of(folder):
    """Return the description's path of the last attempt that is known here."""
    for _ in range(MOST_ATTEMPTS):
        try:
            with open(os.path.join(folder, "next")) as file:
                name = file.read(MOST_ATTEMPTS)
        except OSError:
            break
        following = os.path.join(os.path.dirname(folder), os.path.basename(name))
        if not os.path.exists(os.path.join(following, "launch.json")):
            break  # it was never started
        folder = following
    return os.path.join(folder, "launch.json")


def find(path):
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TEXT)
    except OSError:
        return b""
