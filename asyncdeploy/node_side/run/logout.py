"""Whether what runs here outlives the end of our SSH session: where logind is told so, it kills all of a session.

Runs on a node, loaded by jobs.py: Python >= 3.8, standard library only. logind.conf(5): KillUserProcesses, and the
users for whom it counts; what counts is in which control group a process is, and not whether it is a session's leader.
"""

import os
import re

from asyncdeploy.node_side import files, tools

ASK_S = 3.0  # loginctl asks over a bus, which may hang


def survives():
    """Return False where logind will kill what this process starts once the session is over."""
    if not in_session(files.text("/proc/self/cgroup")):
        return True  # no session of logind's: a container, a node without it, or a unit of its own
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ""
    return not kills(asked(), name)


def in_session(groups):
    return bool(re.search(r"/session-[^/]+\.scope(/|$)", groups, re.MULTILINE))


def asked():
    """Return logind's own settings as "Name=value" lines."""
    names = ("KillUserProcesses", "KillExcludeUsers", "KillOnlyUsers")
    return tools.ask(["loginctl", "show-session", *("--property=" + name for name in names)], ASK_S)


def kills(settings, user):
    """Return whether these settings end this user's processes with their session."""
    found = dict(line.partition("=")[::2] for line in settings.splitlines())
    only, exclude = (found.get(key, "").split() for key in ("KillOnlyUsers", "KillExcludeUsers"))
    return found.get("KillUserProcesses") == "yes" and user not in exclude and (not only or user in only)
