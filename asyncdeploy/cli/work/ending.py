"""What becomes of a run: waited for, stopped, brought home."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.tell import tell
from asyncdeploy.cli.settings.brought_home import remember_home
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.settings.values import target_of
from asyncdeploy.cli.work import watching
from asyncdeploy.cli.work.runs import Found, find_run

FORGET = "its project's folder is not known here: give --source an absolute path"


async def wait(desk: Desk, text: str) -> int:
    """Wait for a run's end and return its exit status."""
    found = await find_run(desk, text)
    if found.launch is not None:
        return await watching.wait(desk, found.launch, found.kept)
    count = len(found.set)
    desk.out.say(f"waiting for {found.id} on {count} node{'s' * (count > 1)}; Ctrl-C leaves it running")
    try:
        report = await found.set.wait(pool=desk.pool)
    except asyncio.CancelledError:
        where = watching.where_of(found.kept, [seen.node for seen in found.set])
        watching.tell_left(desk, found.id, "runs on", where=where, alone=True)
        raise
    return tell(desk, report, "are done: exit status 0")


async def stop(desk: Desk, text: str, grace_s: float | None) -> int:
    """Stop a run; 0 if nothing of it lives."""
    found = await find_run(desk, text)
    if found.launch is not None:
        report = await ad.stop_launch(found.launch, grace_s=grace_s, pool=desk.pool)
    else:
        report = await found.set.stop(grace_s=5.0 if grace_s is None else grace_s, pool=desk.pool)
    # How it had ended is no matter of the stop: that nothing lives is.
    if not all(_is_over(seen.value) for seen in report):
        return tell(desk, ad.Report(tuple(map(_as_stopped, report))), "")
    desk.out.say(f"{found.id}: nothing of it runs on {len(report)} node{'s' * (len(report) > 1)}")
    desk.out.document({"ok": True, "exit": 0, "id": found.id, "report": report})
    return 0


def _is_over(status: ad.JobStatus | None) -> bool:
    """Return whether a node has said that nothing of a job lives: one that has forgotten the job has not."""
    forgot = status is not None and status.state == "lost" and status.started_at is None
    return status is not None and status.ended and not status.survivors and not forgot


def _as_stopped(seen: ad.Outcome[ad.JobStatus]) -> ad.Outcome[ad.JobStatus]:
    if _is_over(seen.value):
        return ad.Outcome(seen.node, "ok", seen.value)
    name = seen.node.name
    left = ", ".join(seen.value.survivors) if seen.value is not None else ""
    what = f"could not be ended: {left}" if left else "it did not confirm that nothing of the run lives"
    return ad.Outcome(seen.node, "unknown", seen.value, seen.error or ad.ConnectionLost(name, what))


async def collect(desk: Desk, text: str, asked: Any) -> int:
    """Bring a run's results home."""
    found, table = await find_run(desk, text), desk.file.collect
    target = asked.to if asked.to is not None else target_of(desk.file)
    source = asked.source or table.get("source", "results")
    limits = ad.CollectLimits(
        include=asked.include or tuple(table.get("include", ())),
        exclude=asked.without or tuple(table.get("exclude", ())),
    )
    every_s = seconds(asked.every, "--every") if asked.every else None
    if asked.logs and found.launch is None:
        raise UsageError("--logs: of a launch the ranks have logs of their own; asyncdeploy logs prints those of a job")
    what = found.launch if found.launch is not None else _deployments(found)
    nodes = found.nodes if found.launch is not None else [each.node for each in _deployments(found)]
    remember_home(Path(target), (f"{rank}-{node.name}" for rank, node in enumerate(nodes)))
    if found.launch is not None and asked.logs:
        report: ad.Report[ad.Collected] = await ad.collect_logs(
            found.launch, target, limits=limits, allow_partial=asked.partial, pool=desk.pool
        )
    else:
        report = await ad.collect_all(
            what,
            source,
            target,
            limits=limits,
            every_s=every_s,
            allow_partial=asked.partial,
            pool=desk.pool,
        )
    for collected in report.values:
        files = f"{collected.files} file{'' if collected.files == 1 else 's'}"
        desk.out.result(f"{_from_here(collected.target)}: {files}, {collected.received} new")
    return tell(desk, report, f"are at home, in {_from_here(target)}")


def _from_here(path: str | Path) -> Path:
    """Return a path as a person in this folder would type it."""
    here, path = Path.cwd(), Path(path)
    return path.relative_to(here) if path.is_relative_to(here) else path


def _deployments(found: Found) -> tuple[ad.Deployment, ...]:
    if found.kept is None or not found.kept.deployments:
        raise UsageError(f"{found.id}: {FORGET}")
    return found.kept.deployments
