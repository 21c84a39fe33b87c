"""Programs of ranks that fail in every way a rank is known to fail, and what must be said of each."""

import attrs

WAIT = "import os, sys, time\nfirst = os.environ['RANK'] != '1'\nif first:\n    time.sleep(60)\n"
RECORD = """\
from torch.distributed.elastic.multiprocessing.errors import record
@record
def main():
    time.sleep(60) if first else divide(1, 0)
def divide(a, b):
    return a / b
import os, time
first = os.environ['RANK'] != '1'
main()
"""
# The rank goes into a memory cgroup of its own and takes more than that has.
OUT_OF_MEMORY = """\
import pathlib
here = pathlib.Path("/sys/fs/cgroup/memory") / f"asyncdeploy-test-{os.getpid()}"
here.mkdir()
(here / "memory.limit_in_bytes").write_text(str(64 << 20))
(here / "cgroup.procs").write_text(str(os.getpid()))
pathlib.Path("cgroup").write_text(str(here))
hoard = [bytearray(b"x") * (1 << 20) for _ in range(4096)]
"""


@attrs.frozen
class Case:
    """A program and the failure that it makes.

    Attributes:
        program: its text; None where there is no such file.
        error: the exception that must be named, "" where there is none.
        exit_code: in words.
        frames: where that was raised.
        evidence: what must stand in the last words.
        hint: what must stand in the hint.
    """

    program: str | None
    error: str = ""
    exit_code: str = "status 1"
    frames: tuple[str, ...] = ()
    evidence: str = ""
    hint: str = ""


CASES = {
    "raises": Case(
        WAIT + "def step():\n    raise RuntimeError('no luck')\nstep()\n",
        "RuntimeError: no luck",
        frames=("raises.py:7", "raises.py:6 in step"),
        evidence="RuntimeError: no luck",
    ),
    "recorded": Case(
        RECORD,
        "ZeroDivisionError: division by zero",
        frames=("recorded.py:9", "recorded.py:4 in main", "recorded.py:6 in divide"),
        evidence="ZeroDivisionError",
    ),
    "caught": Case(
        WAIT + "import traceback\ntry:\n    {}['key']\nexcept KeyError:\n    traceback.print_exc()\n    os._exit(1)\n",
        "KeyError: 'key'",
        evidence="Traceback (most recent call last)",
    ),
    "killed": Case(WAIT + "print('so long', flush=True)\nos.kill(os.getpid(), 9)\n", "", "SIGKILL", evidence="so long"),
    "crashed": Case(
        WAIT + "def crash():\n    os.kill(os.getpid(), 11)\ncrash()\n",
        "",
        "SIGSEGV",
        evidence='crashed.py", line 6 in crash',
    ),
    "left": Case(WAIT + "print('bye', file=sys.stderr, flush=True)\nos._exit(3)\n", "", "status 3", evidence="bye"),
    "exits": Case(WAIT + "sys.exit(5)\n", "", "status 5"),
    "says": Case(WAIT + "sys.exit('no data set')\n", "", evidence="no data set"),
    "imports": Case(
        "import no_such_module\n",
        "ModuleNotFoundError: No module named 'no_such_module'",
        frames=("imports.py:1",),
        hint="look at the env's groups and extras",
    ),
    "missing": Case(None, "", "status 2", evidence="can't open file", hint="was it pushed?"),
    "syntax": Case("x = (\n", "SyntaxError: '(' was never closed (syntax.py, line 1)", frames=("syntax.py:1",)),
}

# Rank 0 sees its peer go and dies of that at once; rank 1 raised first, and takes its time to end.
SYMPTOM_FIRST = """\
import os, sys, time
import torch
import torch.distributed as dist

class Slow:
    def __del__(self):
        time.sleep(1.5)

dist.init_process_group("gloo")
value = torch.ones(4)
dist.all_reduce(value)
if dist.get_rank() == 1:
    slow = Slow()
    def step():
        dist.destroy_process_group()
        raise RuntimeError("the real cause")
    step()
dist.all_reduce(value)
"""
