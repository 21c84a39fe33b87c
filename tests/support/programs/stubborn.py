"""Shell that does not want to end, and what becomes of its processes."""

from pathlib import Path

import attrs
import pytest

from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandTimeout
from tests.support.waiting import eventually, is_alive

# A grandchild that ignores TERM and leaves its session, one more that changes its title: each writes its pid first.
STUBBORN = """
(trap '' TERM HUP; echo $$ >> pids; setsid sh -c 'trap "" TERM; echo $$ >> pids; while :; do sleep 1; done' &
 sh -c 'trap "" TERM; echo $$ >> pids; while :; do sleep 1; done' & wait) &
echo $$ >> pids
while [ "$(wc -l < pids)" -lt 4 ]; do sleep 0.02; done
echo ready
"""


# The first is enough on an idle machine, and none is too short for a busy one.
TIMEOUTS_S = (1.0, 4.0, 16.0)


def pids_of(home: Path) -> list[int]:
    """The processes that wrote themselves down in ./pids; none while nobody has."""
    path = home / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def living(home: Path) -> list[int]:
    """Those of them that still run."""
    return [pid for pid in pids_of(home) if is_alive(pid)]


async def until_written(home: Path, count: int = 4) -> list[int]:
    """Wait until so many have written themselves down; their pids."""
    return await eventually(lambda: len(found := pids_of(home)) >= count and found, f"{count} have written their pids")


async def timed_out(remote: Remote, home: Path, command: Command, count: int = 4) -> CommandTimeout:
    """Run a command into a timeout; into a longer one if so many could not write themselves down in a shorter."""
    for timeout_s in TIMEOUTS_S:
        (home / "pids").unlink(missing_ok=True)
        with pytest.raises(CommandTimeout) as caught:
            await run_command(remote, attrs.evolve(command, timeout_s=timeout_s))
        if (home / "pids").exists() and len((home / "pids").read_text().splitlines()) == count:
            return caught.value
    raise AssertionError(f"it did not get going in {TIMEOUTS_S[-1]} s")


async def until_gone(pids: list[int]) -> None:
    """Wait, bounded, until none of the processes lives."""
    await eventually(lambda: not any(is_alive(pid) for pid in pids), f"none of {pids} lives")
