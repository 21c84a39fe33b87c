"""What runs, what it has printed, why it failed: looked at, and shown."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.work import watching
from asyncdeploy.cli.work.runs import Found, find_run

TAIL_BYTES = 400
"""Of a log for each line of a --tail: longer ones are rare, and then fewer lines are shown than were asked for."""

LOG_BYTES = 64 << 20
"""Of a job's log that is printed without -f: what somebody scrolls through."""


async def show_lines(desk: Desk, text: str, asked: Any) -> int:
    """Print a run's lines, those of the flags; with ``follow`` until it ends or somebody leaves."""
    found = await find_run(desk, text)
    follow, tail, since, rank = asked.follow, asked.tail, asked.since, asked.rank
    after = time.time() - seconds(since, "--since") if since is not None else 0.0
    if found.launch is None:
        return await _job_lines(desk, found, follow=follow, tail=tail)
    launch = found.launch
    node_rank = None if rank is None else node_of_rank(launch, rank)
    waiting: deque[ad.LaunchLine] = deque(maxlen=tail)
    async with ad.follow_launch(launch, look="now", pool=desk.pool) as lines:
        async for line in lines:
            if line.at >= after and node_rank in (None, line.node_rank):
                waiting.append(line)
                if tail is None:
                    watching.show_line(desk, waiting.popleft(), launch)
    for line in waiting:
        watching.show_line(desk, line, launch)
    if not follow:
        return 0
    desk.out.say(f"following {launch.id}: this only looks, nobody watches because of it; Ctrl-C ends the looking")
    try:
        options = {"fold_s": watching.FOLD_S} if node_rank is None else {}
        offsets = lines.offsets
        async with ad.follow_launch(launch, offsets=offsets, look="follow", pool=desk.pool, **options) as lines:
            async for line in lines:
                if node_rank in (None, line.node_rank):
                    watching.show_line(desk, line, launch)
    except asyncio.CancelledError:
        desk.out.say(f"\n{launch.id} goes on as before")
        raise
    return 0


def node_of_rank(launch: ad.Launch, rank: int) -> int:
    """Return the node rank of a global rank.

    Raises:
        UsageError: there is none.
    """
    placement = launch.placement
    if not 0 <= rank < placement.world_size:
        raise UsageError(f"rank {rank}: {launch.id} has ranks 0 to {placement.world_size - 1}")
    return max(place.node_rank for place in placement.places if placement.first_rank(place.node_rank) <= rank)


async def _job_lines(desk: Desk, found: Found, *, follow: bool, tail: int | None) -> int:
    """Print the logs of jobs: of one after the other, or of all as they come."""

    async def read(job: ad.Job) -> None:
        text = await ad.read_log(desk.pool.at(job.node), job, tail * TAIL_BYTES if tail else LOG_BYTES)
        for line in text.splitlines()[-tail if tail else 0 :]:
            _show(desk, job, line)

    async def go_on(job: ad.Job) -> None:
        async with ad.follow_job(desk.pool.at(job.node), job) as lines:
            async for line in lines:
                _show(desk, job, line)

    if follow:
        await asyncio.gather(*(go_on(job) for job in found.jobs))
    else:
        for job in found.jobs:
            await read(job)
    return 0


def _show(desk: Desk, job: ad.Job, line: str) -> None:
    desk.out.event("JobLine", {"node": job.node.name, "job": job.id, "text": line})
    desk.out.result(f"{job.node.name}: {line}")


async def explain(desk: Desk, text: str) -> int:
    """Say why a run failed, or where its ranks stand."""
    found = await find_run(desk, text)
    out = desk.out
    if found.launch is None:
        return await _explain_jobs(desk, found)
    jobs = {job.node: job for job in found.launch.jobs}
    status = await ad.map_nodes(found.launch.nodes, lambda node: ad.job_status(desk.pool.at(node), jobs[node]))
    if any(not seen.ended for seen in status.values):
        diagnosis = await ad.diagnose_launch(found.launch, pool=desk.pool)
        out.result(diagnosis.describe())
        out.document({"ok": True, "exit": 0, "status": status, "diagnosis": diagnosis})
        return 0
    report = await ad.wait_launch(found.launch, pool=desk.pool)
    failed = next((seen.error for seen in report if isinstance(seen.error, ad.LaunchFailed)), None)
    if failed is not None:
        out.result(ad.describe_failure(failed))
    else:
        out.result("\n".join(f"{seen.job.node.name}: {seen.how}" for seen in status.values))
    out.document({"ok": True, "exit": 0, "status": status, "failure": failed})
    return 0


async def _explain_jobs(desk: Desk, found: Found) -> int:
    by_node = {job.node: job for job in found.jobs}
    report = await ad.map_nodes(tuple(by_node), lambda node: ad.job_status(desk.pool.at(node), by_node[node]))
    for seen in report.judged():
        said = (
            str(seen.error) if seen.error is not None else f"{seen.node.name}: {seen.value.how if seen.value else ''}"
        )
        desk.out.result(said)
    desk.out.document({"ok": True, "exit": 0, "report": report})
    return 0
