"""What a node says of its jobs, checked and turned into data: Job, JobStatus, marks of time. Text; no I/O."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any

from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job, JobStatus
from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.words import clean, one_line

MAX_MARKS = 2000
"""Times of an answer; a node gives no more."""


def parse_answer(remote: Remote, payload: bytes) -> dict[str, Any]:
    """Return an answer's data."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ProtocolError(remote.node.name, "a question about a job was answered by nonsense")
    return answer


def job_of(remote: Remote, answer: Mapping[str, Any]) -> Job:
    """Return the job that an answer describes."""
    spec = answer.get("spec")
    try:
        assert isinstance(spec, dict)
        text = {key: str(spec.get(key) or "")[:4096] for key in ("name", "site", "line")}
        created = float(spec.get("created_at") or 0.0)
        name, site, line = one_line(text["name"], 100), text["site"], clean(text["line"])  # a site is used as it is
        return Job(remote.node, str(answer["id"]), name, site, line, created)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(remote.node.name, f"a job that is none was named: {error}") from None


def status_of(remote: Remote, job: Job, answer: Mapping[str, Any]) -> JobStatus:
    """Return a job's state as an answer tells it."""
    if answer.get("error") == "unknown":
        return JobStatus(job, "lost")
    state = answer.get("state")
    status, number = answer.get("status"), answer.get("signal")
    sound = state in ("starting", "running", "exited", "signalled", "orphaned", "lost", "elsewhere")
    sound = sound and (state != "exited" or (isinstance(status, int) and 0 <= status <= 255))
    sound = sound and (state != "signalled" or (isinstance(number, int) and 0 < number < 128))
    if not sound:
        raise ProtocolError(remote.node.name, f"the state of job {job.id} is nonsense")
    return JobStatus(
        job,
        state,  # type: ignore[arg-type]  # checked above
        status if state == "exited" else None,
        _signal_name(number) if state == "signalled" else None,
        _time(answer, "started_at"),
        _time(answer, "ended_at"),
        timed_out=answer.get("timed_out") is True,
        signal_possible=answer.get("signal_possible") is True,
        stopped=answer.get("stopped") is True,
        told_at=_time(answer, "told_at"),
        because=one_line(str(answer.get("because", ""))),
        survivors=_names(answer.get("survivors")),
        gpu_left=_names(answer.get("gpu_left")),
    )


def number_of(value: Any) -> int:
    """Return a count, 0 where it is none."""
    return value if isinstance(value, int) else 0


def marks_of(rows: Any) -> list[tuple[int, float]]:
    """Return [size, time] as a node says it, of what makes sense."""
    pairs = (
        [row for row in rows[:MAX_MARKS] if isinstance(row, list) and len(row) == 2] if isinstance(rows, list) else []
    )
    return [(int(size), float(at)) for size, at in pairs if isinstance(size, int) and isinstance(at, int | float)]


def _names(rows: Any) -> tuple[str, ...]:
    return tuple(one_line(str(item), 100) for item in rows[:50]) if isinstance(rows, list) else ()


def _time(answer: Mapping[str, Any], key: str) -> float | None:
    value = answer.get(key)
    return float(value) if isinstance(value, int | float) else None


def _signal_name(number: Any) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
