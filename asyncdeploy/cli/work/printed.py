"""What a run has printed: the lines of a launch or of a start's jobs, as they are or as they come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.exits import exit_of_report
from asyncdeploy.cli.desk.output import failures_in_words
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.work import watching
from asyncdeploy.cli.work.looking import node_of_rank
from asyncdeploy.cli.work.runs import Found, find_run

TAIL_BYTES = 400
"""Of a log for each line of a --tail: longer ones are rare, and then fewer lines are shown than were asked for."""
LOG_BYTES = 64 << 20
"""Of a job's log that is printed without -f: what somebody scrolls through."""


async def show_lines(desk: Desk, text: str, asked: Any) -> int:
    """Print a run's lines, those of the flags; with --follow until it ends or somebody leaves."""
    after = time.time() - seconds(asked.since, "--since") if asked.since is not None else 0.0
    if asked.tail is not None and asked.tail < 0:
        raise UsageError(f"--tail: a number of lines, 0 or more, was expected, got {asked.tail}")
    found = await find_run(desk, text)
    if found.launch is None:
        for flag, value, lacks in (("--since", asked.since, "tells no times"), ("--rank", asked.rank, "has no ranks")):
            if value is not None:
                raise UsageError(f"{flag}: {found.id} was started, not launched: its log {lacks}")
        return await _job_lines(desk, found, follow=asked.follow, tail=asked.tail)
    launch = found.launch
    node_rank = None if asked.rank is None else node_of_rank(launch, asked.rank)

    def is_asked(line: ad.LaunchLine) -> bool:
        if node_rank is None:
            return True
        return line.rank == asked.rank or (line.rank is None and line.node_rank == node_rank)

    waiting: deque[ad.LaunchLine] = deque(maxlen=asked.tail)
    async with ad.follow_launch(launch, look="now", pool=desk.pool) as lines:
        async for line in lines:
            if line.at >= after and is_asked(line):
                waiting.append(line)
                if asked.tail is None:
                    watching.show_line(desk, waiting.popleft(), launch)
    for line in waiting:
        watching.show_line(desk, line, launch)
    if asked.follow:
        fold_s = watching.FOLD_S if node_rank is None else None
        return await _follow(desk, found, lines.offsets, is_asked, fold_s)
    read = [
        ad.Outcome[None](node, "ok" if (error := lines.unread.get(rank)) is None else "unknown", None, error)
        for rank, node in enumerate(launch.nodes)
        if node_rank in (None, rank)
    ]
    return _end(desk, launch.id, ad.Report(tuple(read)))


async def _follow(
    desk: Desk,
    found: Found,
    offsets: tuple[int, ...],
    is_asked: Callable[[ad.LaunchLine], bool],
    fold_s: float | None,
) -> int:
    launch = found.launch
    assert launch is not None
    desk.out.say(f"following {launch.id}: this only looks, nobody watches because of it; Ctrl-C ends the looking")
    try:
        async with ad.follow_launch(launch, offsets=offsets, look="follow", fold_s=fold_s, pool=desk.pool) as lines:
            async for line in lines:
                if is_asked(line):
                    watching.show_line(desk, line, launch)
    except asyncio.CancelledError:
        _tell_left(desk, found, launch.id)
        raise
    desk.out.document({"ok": True, "exit": 0, "id": launch.id})
    return 0


async def _job_lines(desk: Desk, found: Found, *, follow: bool, tail: int | None) -> int:
    """Print the logs of jobs: of one after the other, or of all as they come."""
    if not follow:
        outcomes = list(found.silent)
        for job in found.jobs:
            try:
                text = await ad.read_log(desk.pool.at(job.node), job, LOG_BYTES if tail is None else tail * TAIL_BYTES)
            except ad.DeployError as error:
                outcomes.append(ad.Outcome(job.node, "unknown", None, error))
                continue
            outcomes.append(ad.Outcome(job.node, "ok", job))
            lines = text.splitlines()
            for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
                _show(desk, ad.JobLine(job.node.name, line))
        return _end(desk, found.id, ad.Report(tuple(outcomes)))
    try:
        async with found.set.follow(offset=-tail * TAIL_BYTES if tail else 0, pool=desk.pool) as coming:
            async for each in coming:
                _show(desk, each)
    except asyncio.CancelledError:
        _tell_left(desk, found, found.id)
        raise
    assert coming.report is not None
    # How a job ended is no matter of its lines.
    return _end(desk, found.id, ad.Report(tuple(_as_read(seen) for seen in coming.report)))


def _tell_left(desk: Desk, found: Found, run: str) -> None:
    where = watching.where_of(found.kept, found.nodes)
    watching.tell_left(desk, run, "goes on as before", where=where, alone=found.launch is None)


def _as_read(seen: ad.Outcome[ad.JobStatus]) -> ad.Outcome[ad.JobStatus]:
    return seen if seen.value is None else ad.Outcome(seen.node, "ok", seen.value)


def _end(desk: Desk, run: str, report: ad.Report[Any]) -> int:
    """Say whose lines are not among those that were shown, and return the exit status."""
    code = exit_of_report(report)
    if not (report.ok or desk.out.json):
        return desk.out.error(failures_in_words(report), code)
    desk.out.document({"ok": report.ok, "exit": code, "id": run, "report": report})
    return code


def _show(desk: Desk, line: ad.JobLine) -> None:
    desk.out.event("JobLine", line.to_dict())
    desk.out.line(f"{line.node}: {line.shown(colours=desk.out.colours)}")
