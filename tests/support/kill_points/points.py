"""Which points are played, how one is played, and what came of all of them.

POINTS (ASYNCDEPLOY_KILL_POINTS) says how many there are in all; each test takes its share of them, spread over all of
the system calls that it has counted in a first run. SEED (ASYNCDEPLOY_SEED) says which ones.
"""

import collections
import json
import os
import platform
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

import asyncdeploy as ad
from tests.support.kill_points import tracer
from tests.support.tools import missing
from tests.support.waiting import eventually

POINTS = int(os.environ.get("ASYNCDEPLOY_KILL_POINTS") or 0)
FEW = 1  # of each process in each test where nobody asks for more
SEED = int(os.environ.get("ASYNCDEPLOY_SEED") or 17)
GROWS = ("write", "pwrite64", "openat", "link", "linkat", "mkdir", "mkdirat", "symlinkat")
"""Calls that a disk refuses for as long as it is full."""
CHANGES = (*GROWS, "fsync", "ftruncate", "rename", "renameat")
"""Calls that a disk or its quota may refuse once."""
ALL = (*CHANGES, "fchmodat", "utimensat", "unlinkat", "unlink", "read")
"""Calls that fail where it is broken."""


@attrs.frozen
class Plan:
    """What befalls which process at which of its calls; as tracer.py reads it."""

    who: str
    when: int
    calls: tuple[str, ...] | None = None
    within: str = ""
    error: str = ""
    on: bool = False
    ours: bool = True

    def __str__(self) -> str:
        what = f"{self.error}{' from then on' if self.on else ''}" if self.error else "KILL"
        return f"{what} at call {self.when} of process {self.who}"


class Doom:
    """A shell whose tree of processes is traced: `ShellRemote(home, shell=doom.shell)`."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        if platform.machine() != "x86_64" or sys.platform != "linux":
            missing("needs Linux on x86-64, for which tracer.py is written")
        self.path = folder / f"plan-{len(list(folder.glob('plan-*')))}"
        self.path.write_text(json.dumps(attrs.asdict(plan)))
        self.shell = (sys.executable, "-S", tracer.__file__, str(self.path), "sh", "-c")

    def said(self) -> list[dict[str, object]]:
        path = Path(f"{self.path}.said")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def hit(self) -> str:
        """What it met: "renameat of adeploy-job", or "" where it met nothing."""
        return next((f"{each['call']} of {each['name']}" for each in self.said() if "hit" in each), "")

    async def counted(self, names: Iterable[str]) -> dict[tuple[str, str], int]:
        """How many calls each process of these names has made, by name and place; once all have ended."""
        await eventually(lambda: any("over" in each for each in self.said()), "all of them have ended", within_s=60)
        found: dict[tuple[str, str], int] = {}
        for each in self.said():
            if "who" in each and each["name"] in names:
                found[str(each["name"]), str(each["who"])] = int(str(each["calls"]))
        return found


def spread(total: int, share: float, dice: random.Random) -> Iterator[int]:
    """So many of the numbers from 1 to a total as are this test's share, evenly, each run others."""
    count = min(total, max(FEW, round(POINTS * share)) if POINTS else FEW)
    for number in range(count):
        yield 1 + int((number + dice.random()) * total / count)


@attrs.define
class Tally:
    """What was played, by what was met and what came of it."""

    what: str
    came: collections.Counter[str] = attrs.Factory(collections.Counter)
    met: collections.Counter[str] = attrs.Factory(collections.Counter)

    def add(self, met: str, came: str) -> None:
        self.met[met or "nothing"] += 1
        self.came[came] += 1

    def tell(self) -> None:
        """Say it, and prove that something was met."""
        print(f"\n{self.what}: {self.met.total()} points")
        for title, counts in (("met", self.met), ("came", self.came)):
            print(f"  {title}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
        assert self.met.total() > self.met["nothing"]


def word_of(error: ad.DeployError) -> str:
    """What kind of error people are told: a clear one, never a traceback of ours."""
    assert "Traceback" not in str(error), error
    assert not isinstance(error, ad.ProgramFailed) or (error.hint and not error.evidence), (error, error.evidence)
    return type(error).__name__


def belonging(home: Path) -> list[str]:
    """Every process on this machine whose home is a node's, by its command line."""
    found, mark = [], b"HOME=" + os.fsencode(home)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    name = (entry / "comm").read_text().strip()
                    found.append(f"{entry.name} {name}: {line[-60:]}")
            except OSError:
                continue  # it has just ended
    return found


async def settled(home: Path, alive: Iterable[str], what: str) -> None:
    """Wait until nobody lives whose home that is but who lived before."""
    before = set(alive)
    try:
        await eventually(lambda: not set(belonging(home)) - before)
    except AssertionError:
        raise AssertionError(f"{what}; these are left: {sorted(set(belonging(home)) - before)}") from None
