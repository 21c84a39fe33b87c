"""Why a launch failed, by looking: nobody is waited for, stopped or started again because somebody asks."""

from __future__ import annotations

import time

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.follow.looks import look_at_launch
from asyncdeploy.launch.gang.watch import with_logs
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.case import RankEnd
from asyncdeploy.launch.root_cause.judge import failure_of, judge_launch
from asyncdeploy.values.errors import ConnectionLost, LaunchFailed


async def explain(pool: Pool, launch: Launch, *, at_most_s: float | None = None) -> LaunchFailed | None:
    """Return the root cause by what the nodes say now, None where none of them knows of a failure.

    Args:
        pool: the connections.
        launch: the launch.
        at_most_s: a node's own time; one that takes longer did not answer.
    """
    status = await look_at_launch(pool, launch, at_most_s=at_most_s)
    if status.state not in ("FAILED", "LOST"):
        return None  # a node that does not answer is accused only where others have failed, or have ended for it
    now, silent = time.time(), dict(status.silent)
    ends = [
        RankEnd(rank, None if rank is not None else ConnectionLost(name, silent[name]), known_at=now)
        for name, rank in zip(status.nodes, status.ranks, strict=True)
    ]
    return failure_of(judge_launch(launch, await with_logs(pool, launch, ends), looked=True))
