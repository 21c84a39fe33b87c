"""What of a job outlives the end of our SSH session: where logind is told so, it kills all of a session, or takes away
the shared memory of a user who has logged out.

Runs on a node, loaded by jobs.py: Python >= 3.8, standard library only. logind.conf(5): KillUserProcesses, and the
users for whom it counts; what counts is in which control group a process is, and not whether it is a session's leader.
RemoveIPC counts for all but the system's own users, unless one lingers (loginctl enable-linger).
"""

import os
import re

from asyncdeploy.node_side import files, tools

LINGER = "/var/lib/systemd/linger"
FIRST_USER = 1000  # logind leaves the IPC of those below it alone
ASK_S = 3.0  # loginctl asks over a bus, which may hang


def said():
    """Return what is told of a job: whether it survives the end of the session, and its shared memory does."""
    if not in_session(files.text("/proc/self/cgroup")):
        return {}  # no session of logind's: a container, a node without it, or a unit of its own
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ""
    settings = asked()
    lingers = bool(name) and os.path.exists(os.path.join(LINGER, name))
    return {
        "survives_logout": not kills(settings, name),
        "keeps_shared_memory": not removes_ipc(settings, os.getuid(), lingers),
    }


def removes_ipc(settings, uid, lingers):
    """Return whether these settings take away a user's shared memory when his last session is over."""
    return "RemoveIPC=yes" in settings.splitlines() and uid >= FIRST_USER and not lingers


def in_session(groups):
    return bool(re.search(r"/session-[^/]+\.scope(/|$)", groups, re.MULTILINE))


def asked():
    """Return logind's own settings as "Name=value" lines."""
    names = ("KillUserProcesses", "KillExcludeUsers", "KillOnlyUsers", "RemoveIPC")
    return tools.ask(["loginctl", "show-session", *("--property=" + name for name in names)], ASK_S)


def kills(settings, user):
    """Return whether these settings end this user's processes with their session."""
    found = dict(line.partition("=")[::2] for line in settings.splitlines())
    only, exclude = (found.get(key, "").split() for key in ("KillOnlyUsers", "KillExcludeUsers"))
    return found.get("KillUserProcesses") == "yes" and user not in exclude and (not only or user in only)
