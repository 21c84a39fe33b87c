"""Let a project's .venv be the environment that was just made, and remove those in which nobody runs any more.

Runs on a node by an environment's own interpreter: Python >= 3.8, standard library only. Arguments: "switch" or
"prune", the link (.venv), the folder of all environments that were made for it.

In that folder each environment stands beside a lock, ``NAME.lock``, which whatever runs in it holds (uv_enter.sh); the
file ``next`` names the one that is being made. Names are not used twice.
"""

import fcntl
import os
import shutil
import sys


def main(word, link, kept):
    if word == "switch":
        switch(link, kept)
    prune(link, kept)


def switch(link, kept):
    with open(os.path.join(kept, "next")) as file:
        venv = file.readline().rstrip("\n")
    new, old = os.path.join(kept, "link"), os.path.join(kept, "old")
    for path in (new, old):
        remove(path)
    os.symlink(venv, new)
    if os.path.isdir(link) and not os.path.islink(link):  # made by hand, or by an older asyncdeploy
        users = users_of([link + "/"])
        if users:
            who = ", ".join(users)
            sys.exit("error: %s is a folder of its own, and %s runs in it: end that, or move it away" % (link, who))
        os.rename(link, old)
    os.replace(new, link)
    os.unlink(os.path.join(kept, "next"))
    remove(old)


def prune(link, kept):
    # In this order: what is being made is named in "next" before it is there, and until the link names it.
    names = [name for name in os.listdir(kept) if os.path.isfile(os.path.join(kept, name, "pyvenv.cfg"))]
    try:
        with open(os.path.join(kept, "next")) as file:
            making = file.readline().rstrip("\n")
    except OSError:
        making = ""
    for name in names:
        venv = os.path.join(kept, name)
        # Who started a program through the link runs in any of them.
        if venv not in (making, os.readlink(link)) and not users_of([venv + "/", link + "/bin"]):
            remove_unless_held(venv)


def remove_unless_held(venv):
    gone, lock = venv + ".gone", venv + ".lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)  # one made by an older asyncdeploy has none
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            pass  # no locks on this file system: what we see of processes has to do
        os.rename(venv, gone)
        os.unlink(lock)
    except FileNotFoundError:
        return  # somebody else removes it
    finally:
        os.close(fd)
    remove(gone)


def users_of(places):
    """Return "pid name" of the processes that we can see whose variables or words name one of the places."""
    wanted, ours = tuple(map(os.fsencode, places)), family()
    pids = filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc/self") else ())
    users = [pid for pid in pids if pid not in ours and uses(pid, wanted)]
    return ["%s %s" % (pid, read(pid, "comm").decode("utf-8", "replace").strip()) for pid in users]


def uses(pid, wanted):
    variables, words = read(pid, "environ"), read(pid, "cmdline").split(b"\0")
    # Of a word only how it begins: a script of ours that is one word may speak of the place.
    return any(place in variables for place in wanted) or any(word.startswith(wanted) for word in words)


def family():
    """Return us and those that started us."""
    found, pid = set(), str(os.getpid())
    while pid.isdigit() and pid != "0" and pid not in found:
        found.add(pid)
        pid = b" ".join(read(pid, "stat").rpartition(b")")[2].split()[1:2]).decode()
    return found


def read(pid, name):
    try:
        with open("/proc/%s/%s" % (pid, name), "rb") as file:
            return file.read()
    except OSError:
        return b""  # it has ended, or is somebody else's


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
