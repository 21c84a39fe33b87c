"""What runs, what it has printed, why it failed: looked at, and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.exits import exit_of_report
from asyncdeploy.cli.desk.output import failures_in_words
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.work import watching
from asyncdeploy.cli.work.on_nodes import rank_of
from asyncdeploy.cli.work.runs import Found, find_run, remembered
from asyncdeploy.cli.work.written import flags_of
from asyncdeploy.values.shown.moments import clock, lasting

JOBS = 20
"""Jobs of their own that ps shows, the newest ones."""


def node_of_rank(launch: ad.Launch, rank: int) -> int:
    """Return the node rank of a global rank.

    Raises:
        UsageError: there is none.
    """
    placement = launch.placement
    if not 0 <= rank < placement.world_size:
        raise UsageError(f"rank {rank}: {launch.id} has ranks 0 to {placement.world_size - 1}")
    return max(place.node_rank for place in placement.places if placement.first_rank(place.node_rank) <= rank)


async def explain(desk: Desk, text: str) -> int:
    """Say why a run failed, or where its ranks stand."""
    found = await find_run(desk, text)
    out = desk.out
    if found.launch is None:
        return await _show_jobs(desk, found)
    status = await ad.launch_status(found.launch, pool=desk.pool)
    failed = await ad.explain_launch(found.launch, pool=desk.pool) if status.state in ("FAILED", "LOST") else None
    if failed is not None:
        out.result(ad.describe_failure(failed))
    said: dict[str, Any] = {"ok": True, "exit": 0, "status": status}
    if status.running:
        diagnosis = await ad.diagnose_launch(found.launch, pool=desk.pool)
        out.result(f"{found.id} {status.words}\n{diagnosis.describe()}")
        out.document({**said, "diagnosis": diagnosis, **({"failure": failed} if failed is not None else {})})
        return 0
    if failed is None:
        out.result(status.describe())
    out.document({**said, "failure": failed})
    return 0


async def _show_jobs(desk: Desk, found: Found) -> int:
    report = await found.set.status(pool=desk.pool)
    code = 0 if report.values else exit_of_report(report)
    for seen in report.judged():
        status, name = seen.value, seen.node.name
        running = status is not None and not status.ended
        if seen.error is not None and not running:
            desk.out.result(str(seen.error))
        else:
            desk.out.result(f"{name}: job {status.job.id} {status.how}" if status is not None else f"{name}: unknown")
    desk.out.document({"ok": report.ok, "exit": code, "report": report})
    return code


async def show_run(desk: Desk, text: str) -> int:
    """Show one run, a line a rank."""
    found = await find_run(desk, text)
    if found.launch is None:
        return await _show_jobs(desk, found)
    status = await ad.launch_status(found.launch, pool=desk.pool)
    desk.out.result(status.describe())
    desk.out.say(watching.next_commands(found.id, watching.where_of(found.kept, found.nodes)))
    desk.out.document({"ok": True, "exit": 0, "run": status})
    return 0


async def show_all(desk: Desk) -> int:
    """Show the launches and jobs of all nodes, the newest first; where nothing names nodes, of those that this home
    remembers.
    """
    if desk.has_nodes():
        nodes = desk.nodes()
    else:
        known = {node.name: node for kept in remembered() for node in kept.reach}
        nodes = tuple(known.values()) or desk.nodes()
    listed = await ad.list_launches(nodes, pool=desk.pool)
    code = exit_of_report(listed) if len(listed.failures) == len(listed) else 0
    jobs, listed = await _jobs(desk, listed)
    rows: list[tuple[str, ...]] = [("RUN", "NODES", "STATE", "STARTED", "ELAPSED", "LAST LINE")]
    rows += [
        (
            each.id,
            ad.fold_names(each.nodes),
            each.words,
            clock(each.started_at),
            lasting(each.started_at, each.ended_at),
            each.last_line,
        )
        for each in listed.launches
    ]
    asked = await asyncio.gather(*(_status(desk, job) for job in jobs))
    rows += [_row(job, seen) for job, seen in zip(jobs, asked, strict=True)]
    statuses = [seen for seen in asked if isinstance(seen, ad.JobStatus)]
    lost = [
        {"id": job.id, "error": seen} for job, seen in zip(jobs, asked, strict=True) if isinstance(seen, ad.DeployError)
    ]
    answer = {"runs": listed.launches, "jobs": statuses, "unknown": lost, "report": listed}
    desk.out.document({"ok": listed.ok and not lost, "exit": code, **answer})
    if desk.out.json:
        return code
    if code:
        return desk.out.error(failures_in_words(listed), code)
    desk.out.result(in_columns(rows) if len(rows) > 1 else "nothing runs or ran there")
    if listed.failures:
        desk.out.say(failures_in_words(listed))
    if len(rows) > 1:
        named = f" {flags_of(nodes)}" if desk.reach.nodes or desk.reach.hostfile else ""
        desk.out.say(watching.next_commands("RUN", named))
    return code


async def _jobs(desk: Desk, listed: ad.LaunchList) -> tuple[list[ad.Job], ad.LaunchList]:
    """Return the newest jobs of their own on the nodes that answered, and the list in which a node that then did not
    is a failure.
    """
    nodes = [outcome.node for outcome in listed if outcome.ok]
    if not nodes:
        return [], listed
    found = await ad.map_nodes(nodes, lambda node: ad.list_jobs(desk.pool.at(node)))
    jobs = [job for each in found.values for job in each if rank_of(job) is None]
    fell = {each.node: each for each in found.failures}
    everybody = [
        attrs.evolve(each, state=fell[each.node].state, error=fell[each.node].error) if each.node in fell else each
        for each in listed
    ]
    newest = sorted(jobs, key=lambda job: job.created_at, reverse=True)[:JOBS]
    return newest, ad.LaunchList(tuple(everybody))


async def _status(desk: Desk, job: ad.Job) -> ad.JobStatus | ad.DeployError:
    try:
        return await ad.job_status(desk.pool.at(job.node), job)
    except ad.DeployError as error:  # of this job nothing is known; of the others all is
        return error


def _row(job: ad.Job, seen: ad.JobStatus | ad.DeployError) -> tuple[str, ...]:
    if isinstance(seen, ad.DeployError):
        return job.id, job.node.name, "unknown", clock(job.created_at), "", seen.message
    elapsed = lasting(seen.started_at, seen.ended_at)
    last_line = seen.last_lines.rpartition("\n")[2]
    return job.id, job.node.name, seen.how.removeprefix("is "), clock(seen.started_at), elapsed, last_line


def in_columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of text as lines whose cells stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
