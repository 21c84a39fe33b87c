"""A program that counts the system calls of what it starts, and lets one of them be the last one, or fail.

    tracer.py PLAN COMMAND...

PLAN is a file of JSON: what strace's inject cannot say is which process of a tree is meant, and which call of all.

    who      a process: "0" is COMMAND, "0.1" its second child, "0.1.0" the first child of that; threads are one with it
    calls    the names of the calls that count, null for all of them
    within   a folder: only calls that are about a file below it count; "" for all
    ours     whether only programs of ours count, from their first word from the client on: not a Python's own start
    when     which of those it is, from 1; 0 only counts
    error    what it fails with; "" lets the process be killed as it makes the call
    on       whether all that follow fail as well, in every process

A line of JSON is added to PLAN.said for each process that has ended and for what was hit. It works on Linux on x86-64
and needs nothing but a python3.
"""

import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

SEIZE, DETACH, SYSCALL, LISTEN, POKEUSER, GETEVENTMSG, GET_SYSCALL_INFO = 0x4206, 17, 24, 0x4208, 6, 0x4201, 0x420E
OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10  # mark calls; forks, vforks, clones and execs are told
FORKS, EXEC, STOP = (1, 2, 3), 4, 128
WALL = 0x40000000
RAX, ORIG_RAX = 10 * 8, 15 * 8
AT_CWD = -100
CALLS = {
    "read": 0, "write": 1, "open": 2, "lseek": 8, "pread64": 17, "pwrite64": 18, "sendto": 44, "sendmsg": 46,
    "fsync": 74, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87, "symlink": 88,
    "chmod": 90, "fchmod": 91, "epoll_wait": 232, "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "symlinkat": 266, "fchmodat": 268, "utimensat": 280, "epoll_pwait": 281, "fallocate": 285,
    "renameat2": 316, "copy_file_range": 326,
}  # fmt: skip
NAMES = {number: name for name, number in CALLS.items()}
BY_FOLDER = {"openat", "mkdirat", "unlinkat", "renameat", "linkat", "fchmodat", "utimensat", "renameat2"}
BY_PATH = {"open", "rename", "mkdir", "rmdir", "link", "unlink", "chmod"}
CREATES = 0o100  # O_CREAT; an open that creates nothing needs no room
PRCTL, READ = 157, 0
ENTRY = 1
OURS = ("python3", "adeploy-keep", "adeploy-job", "adeploy-guard", "adeploy-keeper")
"""Of a disk that fails for all, those who feel it: what a person's job makes of it is none of our business."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def ptrace(what: int, pid: int, address: int = 0, data: int = 0) -> int:
    """As the system has it; a process that has just been killed is OSError ESRCH."""
    ctypes.set_errno(0)
    found: int = LIBC.ptrace(what, pid, address, data)
    if found == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), "ptrace")
    return found


class Call(ctypes.Structure):
    """What the system says of a call that begins or ends."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("_where", ctypes.c_uint64 * 2),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


class Process:
    """One process, or a thread of it: its place in the tree, and what it has done so far."""

    def __init__(self, who: str) -> None:
        self.who, self.name = who, ""
        self.children = self.calls = 0
        self.named = True  # whether its name is the one it has now
        self.listens = False  # whether it has begun to hear what is sent


class Tracer:
    """Counts until its call has come, and goes."""

    def __init__(self, plan_path: str) -> None:
        with Path(plan_path).open() as file:
            self.plan = json.load(file)
        self.said = Path(plan_path + ".said").open("a")  # noqa: SIM115 - it is written to until our end
        calls = self.plan["calls"]
        self.calls = None if calls is None else {CALLS[name] for name in calls}
        self.error = getattr(errno, self.plan["error"]) if self.plan["error"] else 0
        self.within = os.fsencode(self.plan["within"])
        self.known: dict[int, Process] = {}
        self.early: set[int] = set()  # children that have stopped before we heard of them
        self.failing: set[int] = set()  # who is in a call that is to fail
        self.hit = False

    def say(self, **words: object) -> None:
        print(json.dumps(words), file=self.said, flush=True)

    def trace(self, pid: int, seized: Callable[[], object]) -> None:
        ptrace(SEIZE, pid, 0, OPTIONS)
        self.known[pid] = Process("0")
        seized()
        try:
            while not self.hit or self.failing or self.plan["on"]:
                pid, status = os.waitpid(-1, WALL)
                if os.WIFSTOPPED(status):
                    self.stopped(pid, os.WSTOPSIG(status), status >> 16)
                else:
                    self.ended(pid)
        except ChildProcessError:
            pass  # all have ended
        for process in {each.who: each for each in self.known.values()}.values():
            self.say(who=process.who, name=process.name, calls=process.calls)
        self.say(over=True)

    def ended(self, pid: int) -> None:
        process = self.known.pop(pid, None)
        if process is not None and process not in self.known.values():
            self.say(who=process.who, name=process.name, calls=process.calls)

    def stopped(self, pid: int, number: int, event: int) -> None:
        try:
            if event in FORKS:
                child = ctypes.c_ulong()
                ptrace(GETEVENTMSG, pid, 0, ctypes.addressof(child))
                self.born(self.known[pid], child.value)
            elif pid not in self.known:
                self.early.add(pid)
                return
            elif event == EXEC:
                self.known[pid].name, self.known[pid].listens = name_of(pid), False
            elif event == STOP and number != signal.SIGTRAP:
                ptrace(LISTEN, pid)  # it was stopped as by Ctrl-Z
                return
            elif number == signal.SIGTRAP | 0x80:
                self.at_call(self.known[pid], pid)
            self.go_on(pid, 0 if event or number == signal.SIGTRAP | 0x80 else number)
        except OSError as error:
            if error.errno != errno.ESRCH:  # it was killed meanwhile; its end is told by itself
                raise

    def born(self, parent: Process, pid: int) -> None:
        if is_thread(pid):
            self.known[pid] = parent
        else:
            self.known[pid] = Process(f"{parent.who}.{parent.children}")
            self.known[pid].name, self.known[pid].listens = parent.name, parent.listens
            parent.children += 1
        if pid in self.early:
            self.early.discard(pid)
            self.go_on(pid)

    def go_on(self, pid: int, number: int = 0) -> None:
        """Let a process go on to its next call; one that is neither meant nor above who is goes alone."""
        who = self.known[pid].who
        if self.plan["when"] and not self.plan["on"] and not f"{self.plan['who']}.".startswith(f"{who}."):
            del self.known[pid]
            ptrace(DETACH, pid)
        else:
            ptrace(SYSCALL, pid, 0, number)

    def at_call(self, process: Process, pid: int) -> None:
        """A call begins or ends."""
        call = Call()
        ptrace(GET_SYSCALL_INFO, pid, ctypes.sizeof(call), ctypes.addressof(call))
        if call.op == ENTRY:
            self.begins(process, pid, call)
            return
        if pid in self.failing:
            self.failing.discard(pid)
            ptrace(POKEUSER, pid, RAX, -self.error)
        if not process.named:
            process.name, process.named = name_of(pid), True

    def begins(self, process: Process, pid: int, call: "Call") -> None:
        process.named = call.number != PRCTL
        if call.number == READ and call.arguments[0] == 0 and process.name in OURS:
            process.listens = True
        if (self.plan["ours"] and not process.listens) or not self.counts(pid, call):
            return
        process.calls += 1
        if process.who == self.plan["who"] and process.calls == self.plan["when"]:
            self.hit = True
            self.say(hit=process.who, name=process.name, call=NAMES.get(call.number, str(call.number)))
        elif not self.hit or process.name not in OURS:
            return
        if self.error:
            ptrace(POKEUSER, pid, ORIG_RAX, -1)  # a call that is none: what it returns is ours to say
            self.failing.add(pid)
        else:
            os.kill(pid, signal.SIGKILL)

    def counts(self, pid: int, call: "Call") -> bool:
        if self.calls is not None and call.number not in self.calls:
            return False
        if not self.within:
            return True
        name, arguments = NAMES.get(call.number, ""), call.arguments
        if name in BY_FOLDER and arguments[1]:
            path = below(pid, arguments[0], arguments[1])
        elif name == "symlinkat":
            path = below(pid, arguments[1], arguments[2])
        elif name in BY_PATH:
            path = below(pid, AT_CWD, arguments[0])
        else:
            path = link_of(pid, f"fd/{arguments[0]}")
        if not os.path.normpath(path).startswith(self.within):
            return False
        return self.plan["error"] != "ENOSPC" or needs_room(pid, name, arguments, path)


def needs_room(pid: int, name: str, arguments: "ctypes.Array[ctypes.c_uint64]", path: bytes) -> bool:
    """Whether a disk that is full would refuse a call: not what is there already, nor what is written over it."""
    if name == "openat":
        return bool(arguments[2] & CREATES) and not os.path.lexists(path)
    if name in ("mkdir", "mkdirat", "symlinkat"):
        return not os.path.lexists(path)
    if name != "write":
        return True
    try:
        with open(f"/proc/{pid}/fdinfo/{arguments[0]}", "rb") as file:  # noqa: PTH123 - quick
            position = int(file.readline().split()[1])
        return position + arguments[2] > os.stat(f"/proc/{pid}/fd/{arguments[0]}").st_size  # noqa: PTH116 - quick
    except OSError:
        return True


def is_thread(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - as elsewhere here: quick
            return b"Tgid:\t%d\n" % pid not in file.read()
    except OSError:
        return False


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def link_of(pid: int, name: str) -> bytes:
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/{name}"))  # noqa: PTH115 - quick
    except OSError:
        return b""


def folder_of(pid: int, descriptor: int) -> bytes:
    number = ctypes.c_int(descriptor & 0xFFFFFFFF).value
    return link_of(pid, "cwd" if number == AT_CWD else f"fd/{number}")


def below(pid: int, descriptor: int, address: int) -> bytes:
    """The path that a process means by a folder's descriptor and a name."""
    return os.path.join(folder_of(pid, descriptor), text_at(pid, address))  # noqa: PTH118 - of bytes


def text_at(pid: int, address: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - quick
        memory.seek(address)
        try:
            return memory.read(4096).partition(b"\0")[0]
        except OSError:  # the page behind it is not there
            return memory.read(4096 - address % 4096).partition(b"\0")[0]


def follow(plan: str, pid: int) -> None:
    """Let a process of its own trace ``pid`` from now on; return once it does."""
    done, begun = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                os.setsid()
                os.close(done)
                nowhere = os.open(os.devnull, os.O_RDWR)
                for number in (0, 1):
                    os.dup2(nowhere, number)
                Tracer(plan).trace(pid, lambda: os.close(begun))
        finally:
            os._exit(0)
    os.close(begun)
    os.waitpid(child, 0)
    os.read(done, 1)
    os.close(done)


if __name__ == "__main__":
    follow(sys.argv[1], os.getpid())
    os.execvp(sys.argv[2], sys.argv[2:])
