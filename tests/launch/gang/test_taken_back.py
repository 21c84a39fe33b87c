"""J13: of a launch whose start is cancelled nothing stays on the nodes: no rank, no supervisor, no guard."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.node_side import proc
from tests.support.launches import Lines
from tests.support.waiting import BACK_S, eventually


def ours(home: Path) -> list[str]:
    """The supervisors, guards and ranks that run with a home."""
    rows = {pid: row for pid, row in proc.table().items() if not row.has_ended()}
    at_home = [row.name.decode() for pid, row in rows.items() if proc.environ(pid).get(b"HOME") == os.fsencode(home)]
    return [name for name in at_home if name.startswith(("adeploy-job", "adeploy-guard", "sleep"))]


@pytest.mark.parametrize("line", ["exit 3", "exit 0", "sleep 300"])
async def test_j13_a_start_that_is_cancelled_leaves_no_supervisor(workspace: ad.Workspace, line: str) -> None:
    """One rank has started, and ended perhaps; the other one's start is held up. They were waited for for a minute."""
    async with ad.LocalCluster(2) as cluster, cluster.pool() as pool:
        homes = [cluster.home(node) for node in cluster.nodes]
        deployed = await ad.deploy_all(cluster.nodes, workspace, ad.SystemEnv(), pool=pool)
        jobs = homes[1] / ".asyncdeploy" / "jobs"
        jobs.mkdir(mode=0o700, parents=True)
        with (jobs / ".names").open("a") as names:
            fcntl.flock(names, fcntl.LOCK_EX)
            launcher = Lines((f"echo up; {line}",))
            starting = asyncio.create_task(ad.start_launch(pool, deployed.unwrap(), launcher))
            begun = homes[0] / ".asyncdeploy" / "jobs"
            word = "*/exit" if line.startswith("exit") else "*/log"
            await eventually(lambda: [path for path in begun.glob(word) if path.stat().st_size])
            await eventually(lambda: list(jobs.glob("*/lock")), "the other start waits")
            starting.cancel()
            await asyncio.wait([starting])
            assert starting.cancelled()
        for home in homes:
            await eventually(lambda home=home: not ours(home), f"nothing of it runs in {home}", within_s=BACK_S)
