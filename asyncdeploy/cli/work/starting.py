"""A start as this home remembers it: whatever has begun, also where not all of it did."""

from __future__ import annotations

from collections.abc import Sequence

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.tell import tell
from asyncdeploy.cli.work.runs import Kept, remember
from asyncdeploy.cli.work.watching import next_commands
from asyncdeploy.cli.work.written import flags_of
from asyncdeploy.run.job import new_job_id


def begun(desk: Desk, name: str, jobs: ad.JobSet, ready: Sequence[ad.Deployment], created_at: float) -> int:
    """Remember what was started, say it and what to type next, and return the exit status.

    Args:
        desk: where.
        name: what it is called.
        jobs: what became of each start.
        ready: what stands on the nodes.
        created_at: before the first of them was started, seconds since 1970.
    """
    nodes = tuple(each.node for each in jobs if each.value is not None or each.state == "unknown")
    run, where = new_job_id(name), ""
    if nodes:
        there = tuple(each for each in ready if each.node in nodes)
        kept = Kept(run, nodes, created_at, there, jobs=jobs.values)
        if not remember(kept):
            run, where = name, f" {flags_of(nodes)}"
    for outcome in jobs:
        if outcome.value is not None:
            desk.out.result(f"{outcome.node.name}: started {outcome.value.id}")
    code = tell(desk, jobs, f"run {name}")
    if nodes:
        desk.out.say(next_commands(run, where, alone=True))
    return code
