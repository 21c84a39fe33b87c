"""How torchrun's workers ended, as their agent says in its log. Text; no I/O."""

from __future__ import annotations

import calendar
import re
import time

import attrs

from asyncdeploy.values.regex import regex

_FIRST_FAILED = regex(r"failed \(exitcode: (-?[0-9]{1,10})\) local_rank: ([0-9]{1,6}) \(pid: ([0-9]{1,10})\)")
_ALSO_FAILED = regex(
    r"rank +: [0-9]+ \(local_rank: ([0-9]{1,6})\)\s+exitcode +: (-?[0-9]{1,10}) \(pid: ([0-9]{1,10})\)"
)
_AGENT_TIME = regex(
    r"^[EW]([0-9]{2})([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6}) .*"
    r"(?:Sending process|failed \(exitcode)",
    re.MULTILINE,
)


@attrs.frozen
class ProcessEnd:
    """How a process of a node ended; ``stopped`` is a process that whoever started it had told to stop."""

    pid: int
    code: int
    at: float
    stopped: bool = False


def worker_exits(log: str, ended_at: float) -> dict[int | None, ProcessEnd]:
    """Return how torchrun's workers ended, by local rank, as their agent says in its log.

    The agent writes local time without year and zone; the zone is what brings it next to the end of the job.
    """
    first = _FIRST_FAILED.search(log)
    if first is None:
        return {}
    at = _agent_time(log, ended_at)
    # The agent gives one time and names first whom it saw fail first: the others come a moment behind it.
    exits: dict[int | None, ProcessEnd] = {int(first[2]): ProcessEnd(int(first[3]), int(first[1]), at)}
    for found in _ALSO_FAILED.finditer(log):
        exits.setdefault(int(found[1]), ProcessEnd(int(found[3]), int(found[2]), at + 0.001))
    return exits


def worker_failed(log: str) -> bool:
    """Return whether the agent has seen a worker fail before we stopped anything."""
    return _FIRST_FAILED.search(log) is not None


def _agent_time(log: str, ended_at: float) -> float:
    found = _AGENT_TIME.search(log)
    if found is None:
        return ended_at
    month, day, hour, minute, second, micros = map(int, found.groups())
    year = time.gmtime(ended_at).tm_year
    try:
        at = calendar.timegm((year, month, day, hour, minute, second)) + micros / 1e6
    except ValueError:
        return ended_at
    zone = round((ended_at - at) / 900) * 900  # zones differ by quarters of an hour; an agent ends within seconds
    return min(at + zone, ended_at)
