"""What a program of ours could not do on a node, in words: its disks, rights and limits are no traceback of ours."""

from __future__ import annotations

import errno
import os

from asyncdeploy.values.errors import DeployError, NodeFull, ProgramFailed
from asyncdeploy.values.words import last_lines, one_line

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINTS = {
    errno.EROFS: "its file system is mounted read-only; the home folder of the account must be writable",
    errno.EACCES: "look at who owns it and the folders above it; the home folder of the account must be writable",
    errno.EPERM: "look at who owns it, at its attributes (lsattr), and at what the container allows",
    errno.ENOENT: "is the home folder of the account there, and what is named in the call?",
    errno.ENOTDIR: "a file stands where a folder was expected",
    errno.EIO: "a disk of the node fails: look at dmesg there",
    errno.ESTALE: "a network disk of the node has gone: mount it anew",
    errno.EMFILE: "raise the limit on open files there (ulimit -n)",
    errno.ENFILE: "the node as a whole has no more open files to give (fs.file-max)",
    errno.ENOMEM: "the node is short of memory",
    errno.EAGAIN: "raise the limits on processes there (ulimit -u, pids.max)",
}
"""What the machine may lack, and what to do about it; what else is raised is a fault of ours, and has a traceback."""


def failure_of(node: str, program: str, said: bytes) -> DeployError:
    """Return the error for what a program raised.

    Args:
        node: whose it is.
        program: our program there.
        said: the exception in a line, its traceback, its errno and its path, as the worker sends them.
    """
    text, trace, number, path = [*said.split(b"\0", 3), b"", b"", b""][:4]
    code = int(number) if number.isdigit() and len(number) < 5 else 0
    where = one_line(path.decode("utf-8", "replace"))
    if code in _FULL:
        return NodeFull(node, f"no room{where and f' at {where}'}: {os.strerror(code)}", "free space there", "", where)
    if code in _HINTS:
        what = f"{where or program}: {os.strerror(code)}"
        return ProgramFailed(node, what, _HINTS[code], "", program)
    what = f"our program {program!r} failed on the node: {last_lines(text, 1)}"
    return ProgramFailed(node, what, "", last_lines(trace, 8), program)
