"""Ask a tool of the node something, in bounded time; one that hangs is left behind, also by whoever reaps later.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import: subprocess costs 9 ms.
"""

import _signal as signal
import os
import select
import time

from asyncdeploy.node_side import processes

WAIT_S = 5.0  # a tool that answers does so within one; a bus or a driver that hangs takes for ever
MOST = 1 << 20  # bytes of an answer
LOOK_S = 0.05  # a tool may end while something that it started holds its output open
LAST_LOOK_S = 0.005  # between the end of its output and its own
KILL_WAIT_S = 1.0  # for a shell, which cannot hang


def ask(words, wait_s=WAIT_S):
    """Return what a tool prints if it ends well in time, "" otherwise."""
    status, text = outcome(words, wait_s)
    return text if status == 0 else ""


def find_trusted(name, places):
    """Return where a tool lies in one of these folders, "" where it does not, or where others could put another there.

    Whoever takes a folder from a process's words must not run what a stranger has put into it.
    """
    for place in places:
        path = os.path.realpath(os.path.join(place, name)) if place.startswith("/") else ""
        if path and os.path.isfile(path) and os.access(path, os.X_OK) and is_out_of_reach(path):
            return path
    return ""


def is_out_of_reach(path):
    """Whether nobody but us and root can change a file, or put another in its place: all folders above it count."""
    while True:
        try:
            info = os.stat(path)
        except OSError:
            return False  # it is gone
        # Many systems give each user a group of his own, of the same number, and let it write what he makes.
        others = 0o002 if info.st_gid == os.getgid() == os.getuid() else 0o022
        sticky = info.st_mode & 0o041000 == 0o041000  # a folder where each may only touch his own
        if info.st_uid not in (0, os.getuid()) or (info.st_mode & others and not sticky):
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def outcome(words, wait_s=WAIT_S, environ=None, complaints=False):
    """Run a tool and return (exit status, what it printed); the status is None where it did not end in time.

    Args: words (the tool and its arguments), wait_s, environ (instead of ours), complaints (what it prints on its
    stderr counts too).
    """
    # A shell stands between us and the tool. KILL does not reach a process that hangs in a driver, and a child of ours
    # that never ends would be found by every later command of this worker, which is over when no child is left. The
    # shell can always be killed, and what it leaves is no child of ours but the system's.
    argv = [b"sh", b"-c", b'"$@"; exit $?', b"sh", *map(os.fsencode, words)]
    out, into = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        fds = [null, into, into if complaints else null]
        shell = processes.spawn(argv, os.environ if environ is None else environ, fds)
    except OSError as error:
        os.close(out)
        return None, os.strerror(error.errno)
    finally:
        os.close(into)
        os.close(null)
    try:
        return listen(shell, out, time.monotonic() + wait_s)
    finally:
        os.close(out)


def listen(shell, out, deadline):
    """Return the shell's exit status and what came on a pipe until it ended, or until the time was over."""
    os.set_blocking(out, False)
    poll, said, look_s = select.poll(), bytearray(), LOOK_S
    poll.register(out, select.POLLIN)
    while True:
        ended, status = os.waitpid(shell, os.WNOHANG)  # before its words are read: its last ones are there then
        try:
            data = os.read(out, MOST)
            if not data and look_s == LOOK_S:
                poll.unregister(out)  # it would say so again and again
                look_s = LAST_LOOK_S
            said += data[: MOST - len(said)]
        except BlockingIOError:
            pass  # nothing new
        if ended or time.monotonic() > deadline:
            break
        poll.poll(look_s * 1000)
    if not ended:
        leave(shell)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    return code if ended else None, said.decode("utf-8", "replace")


def leave(shell):
    """End a shell and what it started, as far as that can be ended."""
    os.killpg(shell, signal.SIGKILL)
    deadline = time.monotonic() + KILL_WAIT_S
    while not os.waitpid(shell, os.WNOHANG)[0] and time.monotonic() < deadline:
        time.sleep(LAST_LOOK_S)
