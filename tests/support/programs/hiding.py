"""Processes that do not want to be found or ended, and how a test remembers them."""

from pathlib import Path

import attrs

from tests.support.waiting import eventually

# The one who starts them ignores TERM; its child and its orphaned grandchild also leave the session and overwrite their
# arguments and environment, as setproctitle does, but heed no SPT_NOENV: nothing in /proc tells whose they are.
_PROGRAM = """\
import ctypes, os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
def stat():
    return open("/proc/self/stat").read().rpartition(")")[2].split()
def note():
    with open("pids", "a") as file:
        file.write(f"{os.getpid()} {stat()[19]}\\n")
def hide():
    os.setsid()
    start, end = int(stat()[45]), int(stat()[48])
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, b"hidden", 6)
    note()
    time.sleep(999)
note()
if os.fork() == 0:
    hide()
between = os.fork()
if between == 0:
    if os.fork() == 0:
        hide()
    os._exit(0)
os.waitpid(between, 0)
while len(open("pids").readlines()) < 4:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(999)
"""


def hiding_line() -> str:
    """A shell line that writes the four processes it consists of into ./pids, prints "ready" and never ends."""
    program = _PROGRAM.replace("'", "'\\''")
    # /proc's row is read by sh itself: the leader's pid and start time.
    own = 'read -r row < /proc/$$/stat; set -- ${row##*)}; shift 19; echo "$$ $1" > pids'
    return f"{own}; python3 -c '{program}'; :"


@attrs.frozen
class Seen:
    """A process as it was seen: its pid may be another's later, its pid and start time together not."""

    pid: int
    start: int

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie has ended."""
        try:
            words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return words[0] not in "ZX" and int(words[19]) == self.start


def hidden_in(folder: Path) -> list[Seen]:
    """The four processes that wrote themselves down in a folder; fewer while they are still on their way."""
    path = folder / "pids"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [Seen(int(pid), int(start)) for pid, start in rows]


async def all_hidden(*folders: Path) -> list[Seen]:
    """Wait until the four have written themselves down in each of the folders, and check that all run."""
    count = 4 * len(folders)
    found = await eventually(
        lambda: len(seen := [process for folder in folders for process in hidden_in(folder)]) == count and seen,
        f"{count} have written their pids",
    )
    assert alive(found) == found
    return found


def alive(seen: list[Seen]) -> list[Seen]:
    """Those that still run."""
    return [process for process in seen if process.is_alive()]
