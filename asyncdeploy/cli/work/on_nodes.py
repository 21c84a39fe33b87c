"""What nodes know under a name: asked, where this home does not remember it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.settings.usage import UsageError

Silent = tuple[ad.Outcome[ad.Job], ...]
"""Nodes that did not answer, each "unknown"."""


def rank_of(job: ad.Job) -> str | None:
    """Return the name of the launch of which a job is a rank, None where it is a job of its own."""
    name, dot, rank = job.name.rpartition(".")
    return name if dot and rank.isdigit() else None


async def id_on_nodes(desk: Desk, nodes: Sequence[ad.Node], text: str) -> str:
    """Return the id of the one run on the nodes whose id begins with a text; of jobs of one name the name.

    Raises:
        UsageError: there is none, or several.
    """
    report = await ad.map_nodes(nodes, lambda node: ad.list_jobs(desk.pool.at(node)))
    if not report.values:
        report.unwrap()
    jobs = [job for found in report.values for job in found]
    launches = {f"{name}-{job.id[-8:]}" for job in jobs if (name := rank_of(job)) is not None}
    names = {job.name for job in jobs if rank_of(job) is None}
    found = {each for each in launches if each.startswith(text)} | {name for name in names if name == text}
    if len(found) == 1:
        return found.pop()
    if not found:
        raise no_run(text, nodes, report.failures)
    shown = ", ".join(sorted(found)[:5])
    raise UsageError(f"{text} may be {shown}; write more of it; asyncdeploy ps shows what there is")


async def jobs_called(
    desk: Desk, nodes: Sequence[ad.Node], text: str, *, since: float = 0.0
) -> tuple[tuple[ad.Job, ...], Silent]:
    """Return the jobs of an id or a name, one a node, and the nodes that did not say whether they have one.

    Args:
        desk: where.
        nodes: who is asked.
        text: the id or the name.
        since: only what was started after it, seconds since 1970.

    Raises:
        UsageError: two of that name run on one node.
    """

    async def ask(node: ad.Node) -> tuple[ad.Job, ...]:
        remote = desk.pool.at(node)
        alike = [job for job in await ad.list_jobs(remote) if text in (job.id, job.name) and job.created_at >= since]
        newest = tuple({job.site: job for job in alike}.values())  # of a folder: no two of a name run in one
        if len(newest) < 2:
            return newest
        running = [job for job in newest if not (await ad.job_status(remote, job)).ended]
        return tuple(running) or newest[-1:]

    report = await ad.map_nodes(nodes, ask)
    for jobs in report.values:
        if len(jobs) > 1:
            shown = ", ".join(f"{job.id} in {job.site or 'no folder'}" for job in jobs)
            raise UsageError(f"{text} may be {shown}, on {jobs[0].node.name}; write the id")
    silent = tuple(ad.Outcome[ad.Job](seen.node, "unknown", None, seen.error) for seen in report.failures)
    return tuple(job for jobs in report.values for job in jobs), silent


def no_run(text: str, nodes: Sequence[ad.Node], silent: Sequence[ad.Outcome[Any]]) -> UsageError:
    """Return the error that says that nodes know no such run, and who did not answer."""
    said = f"no run {text!r} on {len(nodes)} node{'s' * (len(nodes) != 1)}"
    if silent:
        said += f", of which {ad.fold_names([seen.node.name for seen in silent])} did not answer"
    return UsageError(f"{said}; asyncdeploy ps shows what there is")
