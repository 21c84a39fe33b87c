"""Files on a node: the home folder, folders that are ours alone, reading what may be gone, writing whole.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import errno
import os
import time

AGAIN_S = 0.05
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # what we lack for a moment: it says nothing about a file
OWN = ".asyncdeploy"  # in the home folder: what we keep of jobs and launches
WIDE = 1 << 18  # bytes of a pipe through which much will come


def home():
    """Return the home folder: what HOME says, as a login shell does, else what the system knows of our user."""
    named = os.environ.get("HOME") or ""
    if named.startswith("/"):
        return named
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a uid without an entry, as some containers run
        return "/"


def expand(path, folder=None):
    """Return a path (bytes) with its "~" replaced, by ``folder`` where that is given; another user's stays as it is."""
    if path != b"~" and not path.startswith(b"~/"):
        return path
    folder = os.fsencode(home()) if folder is None else folder
    return (folder.rstrip(b"/") + path[1:]) or b"/"


def own_path(*names):
    """Return where something of ours lies, whether it is there or not."""
    return os.path.join(home(), OWN, *names)


def own_folder(*names):
    """Return a folder of ours, made with those above it where it is not there."""
    folder = make_own(own_path())
    for name in names:
        folder = make_own(os.path.join(folder, name))
    return folder


def make_own(folder):
    """Make a folder closed to others and return it; PermissionError for one that somebody else put there."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        info = os.lstat(folder)
        if info.st_uid != os.getuid() or (info.st_mode & 0o170000) != 0o040000:
            raise PermissionError("%s is not a folder of ours" % folder) from None
    return folder


def read(path, most=-1):
    """Return what a file holds, at the most so many bytes; b"" of one that is not there or is not for us to read."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        if error.errno in SHORT:
            raise
        return b""


def text(path, most=-1):
    """Return the same as text."""
    return read(path, most).decode("utf-8", "replace")


def widen(pipe):
    """Let a pipe hold more, where the kernel allows it: a flood through it takes a quarter of the turns."""
    import fcntl  # most programs never need it

    try:
        fcntl.fcntl(pipe, 1031, WIDE)  # F_SETPIPE_SZ, which Python knows since 3.10
    except OSError:
        pass  # it is none, or the account has no pages left for wider ones


def write_all(fd, data):
    """Write all of it, however much the descriptor takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_whole(path, data, sync=False):
    """Write a file for our eyes only, whole or not at all."""
    # Named by chance and not by our pid: machines that share a home may have the same.
    folder, name = os.path.split(path)
    part = os.path.join(folder, ".%s.%s" % (name, os.urandom(8).hex()))
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    except OSError:
        os.unlink(part)  # a disk that is full needs its room
        raise
    finally:
        os.close(fd)
    os.rename(part, path)


def why(error):
    """Return in words what went wrong, for people."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) + (" (%s)" % os.fsdecode(error.filename) if error.filename else "")
    return "%s: %s" % (type(error).__name__, error)


def insist(work, *args):
    """Do what nobody else does, again and again until we have what it takes; return what it returns."""
    while True:
        try:
            return work(*args)
        except MemoryError:
            pass  # there may be some in a moment, as of the rest
        except OSError as error:
            if error.errno not in SHORT:
                raise
        time.sleep(AGAIN_S)
