"""Whether a site's place can be trusted: what stands there is run, perhaps by root, so nobody else may swap it.

Who may write to a folder may replace what is in it, and who owns one may give himself that right. So on the whole way
to a site every folder and every link must be ours or root's, and open to nobody else; a folder such as /tmp, where
only owners may remove (the sticky bit), serves on the way. The home folder and what is above it is not asked: who
could change those could change our login itself.
"""

import errno
import os
import stat

from asyncdeploy.node_side.files import home
from asyncdeploy.node_side.push.site_record import Refused

MAX_LINKS = 40  # the kernel's own limit on a way
WHOLE = b"0 0 4294967295"  # the uid map where users are what they seem


def check_place(path):
    """Refused if others could put their files in the place of a site, or if it would swallow the home folder."""
    spared = set()
    for own in map(os.fsencode, (os.path.normpath(home()), os.path.realpath(home()))):
        while own not in spared:
            spared.add(own)
            own = os.path.dirname(own)
    owners = trusted_users()
    at, waiting, links = b"/", path.split(b"/")[::-1], 0
    while waiting:
        name = waiting.pop()
        if name in (b"", b"."):
            continue
        here = os.path.dirname(at) if name == b".." else os.path.join(at, name)
        try:
            found = os.lstat(here)
        except FileNotFoundError:
            return  # what is made from here on is ours alone
        if here not in spared and found.st_uid not in owners:
            raise Refused(b"conflict", path, b"place", b"owner", here, b"%d" % found.st_uid)
        if not stat.S_ISLNK(found.st_mode):
            if stat.S_ISDIR(found.st_mode) and here not in spared and is_open(found.st_mode, not any(waiting)):
                raise Refused(b"conflict", path, b"place", b"open", here, b"%d" % found.st_uid)
            at = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        waiting += target.split(b"/")[::-1]
        if target.startswith(b"/"):
            at = b"/"
    if at in spared:
        raise Refused(b"conflict", path, b"place", b"home", at, b"")


def is_open(mode, is_site):
    """Whether any user may put files into a folder; on the way it is enough that he may not remove what is there."""
    return bool(mode & stat.S_IWOTH) and (is_site or not mode & stat.S_ISVTX)


def trusted_users():
    """Return the uids that may own what is on the way: root, us, and in a user namespace all that it does not know."""
    found = {0, os.geteuid()}
    try:
        with open("/proc/self/uid_map", "rb") as file:
            whole = b" ".join(file.read().split()) == WHOLE
        if not whole:
            with open("/proc/sys/kernel/overflowuid", "rb") as file:
                found.add(int(file.read()))
    except (OSError, ValueError):
        pass  # no /proc: users are what they seem
    return found
