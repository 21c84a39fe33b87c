"""Where this account's sites are: each push notes its own, so that cleaning finds those that lie outside the home.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import.

~/.asyncdeploy/sites/ holds a file for each, with its path; the file's time is that of the last push. push.sh
does so too.
"""

import os
import zlib

from asyncdeploy.node_side import files

LONGEST = 4096


def note(path):
    """Note a site's path, as well as it goes: a push does not fail over it."""
    try:
        file = os.path.join(files.own_path("sites"), name_of(path))
        try:
            os.utime(file)
        except FileNotFoundError:
            files.write_whole(os.path.join(files.own_folder("sites"), name_of(path)), path)
    except OSError:
        pass  # a home that is full, or not to be written to


def name_of(path):
    return "%08x-%d" % (zlib.crc32(path), len(path))


def noted():
    """Return the paths that were noted."""
    folder = files.own_path("sites")
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [files.read(os.path.join(folder, name), LONGEST) for name in names if not name.startswith(".")]


def forget(path):
    """Forget a site that is gone."""
    folder = files.own_path("sites")
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if files.read(os.path.join(folder, name), LONGEST) == path:
            os.unlink(os.path.join(folder, name))
