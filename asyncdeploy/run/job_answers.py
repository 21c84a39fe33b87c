"""What a node says of its jobs, checked and turned into data: Job, JobStatus, marks of time. Text; no I/O."""

from __future__ import annotations

import signal
from typing import cast, get_args

from asyncdeploy.remote.answers import LATEST, Answer
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job, JobState, JobStatus
from asyncdeploy.values.words import clean

MAX_MARKS = 2000
"""Times of an answer; a node gives no more."""
MAX_NAMES = 50
"""Survivors and GPUs, as many as a node names."""
MAX_NAME = 100
MAX_PATH = 4096
"""Linux takes no longer path."""


def job_of(remote: Remote, answer: Answer) -> Job:
    """Return the job that an answer describes."""
    spec = answer["spec"]
    name, line = spec["name"].text("", MAX_NAME), clean(spec["line"].exact(""))
    site = spec["site"].exact("")[:MAX_PATH]
    try:
        return Job(remote.node, answer["id"].exact(), name, site, line, spec["created_at"].moment() or 0.0)
    except ValueError as error:
        raise answer["id"].refused(str(error)) from None


def status_of(job: Job, answer: Answer) -> JobStatus:
    """Return a job's state as an answer tells it, with at most MAX_NAMES names and MAX_PATH characters of a path."""
    if answer["error"].is_there:
        answer["error"].word("unknown")
        return JobStatus(job, "lost")
    state = cast(JobState, answer["state"].word(*get_args(JobState)))
    return JobStatus(
        job,
        state,
        answer["status"].whole(0, 255) if state == "exited" else None,
        _signal_name(answer["signal"].whole(1, 127)) if state == "signalled" else None,
        answer["started_at"].moment(),
        answer["ended_at"].moment(),
        timed_out=answer["timed_out"].flag(),
        signal_possible=answer["signal_possible"].flag(),
        stopped=answer["stopped"].flag(),
        stopped_at=answer["stopped_at"].moment(),
        told_at=answer["told_at"].moment(),
        because=answer["because"].text(""),
        survivors=_names(answer["survivors"]),
        gpu_left=_names(answer["gpu_left"]),
        booted_at=answer["booted_at"].moment(),
        met=answer["met"].flag() if answer["met"].is_there else None,
        path=answer["path"].text("", MAX_PATH),
    )


def marks_of(answer: Answer) -> list[tuple[int, float]]:
    """Return [size, time] as a node says it, of what makes sense: a full disk may have cut one of them in two."""
    rows = [row.value for row in answer.items()[:MAX_MARKS]] if answer.is_there else []
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2]
    return [
        (size, float(at))
        for size, at in pairs
        if isinstance(size, int) and isinstance(at, int | float) and 0 <= at <= LATEST
    ]


def _names(answer: Answer) -> tuple[str, ...]:
    return tuple(item.text(limit=MAX_NAME) for item in answer.items()[:MAX_NAMES]) if answer.is_there else ()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
