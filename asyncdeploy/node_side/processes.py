"""What programs that start processes on a node share: start one, gather the orphans below it.

Runs on a node inside the worker, loaded by other programs: Python >= 3.8, standard library only, no heavy import.
"""

import _signal as signal
import os

from asyncdeploy.node_side import proc, shell_text


def find_prctl():
    """Return the kernel's prctl, or None where there is none."""
    try:
        import _ctypes  # what ctypes is made of; to load all of that takes 2 ms, and one function is all that we need

        place, call = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl"), _ctypes.call_cdeclfunction
        return lambda *args: call(place, args)
    except Exception:  # another Python's ctypes is made of something else
        return find_prctl_slowly()


def find_prctl_slowly():
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except Exception:
        return None


def reap_orphans(prctl, on):
    """Have every orphan below this process come to it, or no longer; False where that cannot be."""
    return prctl is not None and prctl(36, int(on), 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER


def set_name(prctl, name):
    """Give this process a name, at most 15 bytes, for people who look at ps."""
    if prctl is not None:
        prctl(15, name, 0, 0, 0)  # PR_SET_NAME


def marked_environ(items, marker):
    """Return our environment with these b"NAME=value" and the marks of a run, for what it starts."""
    environ = dict(os.environb)
    for item in items:
        name, _, value = item.partition(b"=")
        environ[name] = value
    # Else lines come when a buffer is full, and the last ones of a run that is killed never.
    environ.setdefault(b"PYTHONUNBUFFERED", b"1")
    # A title that setproctitle writes goes over the environment that others see, marker and all, unless this is set.
    environ.update({b"ASYNCDEPLOY_RUN": marker, b"SPT_NOENV": b"1"})
    return environ


def tell(pid, number):
    """Send a signal to a process that may have ended since we looked."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # who asked looks again


def wake(pid):
    """Let a process go on that somebody has stopped (SIGSTOP): it could not hear us."""
    row = proc.process(pid)
    if row is not None and row.state in (b"T", b"t"):
        tell(pid, signal.SIGCONT)


def let_go_of_all_but(keep):
    """Close every descriptor but these; 0, 1 and 2 lead nowhere. What outlives its caller must not hold its channel."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that listed the folder


def start_shell(line, environ, fds):
    """Start sh with a line, in a session of its own; return its pid. The descriptors 0, 1, 2 stay the caller's."""
    text, word = shell_text.opened(line, environ)
    try:
        return spawn([b"sh", b"-c", word], environ, [*fds, text])
    finally:
        os.close(text)


def spawn(argv, environ, fds):
    """Start sh in a session of its own with these descriptors as 0, 1, 2 (and a script's as 9); return its pid."""
    shell = "/bin/sh"
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(fds, (0, 1, 2, 9))]
    defaults = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD]
    if hasattr(signal, "SIGXFSZ"):
        defaults.append(signal.SIGXFSZ)
    try:
        return os.posix_spawn(
            shell, argv, environ, file_actions=actions, setsid=True, setsigdef=defaults, setsigmask=[]
        )
    except NotImplementedError:
        pass  # an old libc: by hand
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in defaults:
            signal.signal(number, signal.SIG_DFL)
        for _, fd, target in actions:
            os.dup2(fd, target)
        os.execve(shell, argv, environ)
    finally:
        os._exit(127)
