"""No orphans: whatever of a launch is killed, at any time, nothing of it lives a little later."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

import asyncdeploy as ad
from asyncdeploy.values.errors import DeployError
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.holders import kill_holders, supervisor_of
from tests.support.waiting import eventually

KILLS = int(os.environ.get("ASYNCDEPLOY_KILLS", "10"))
"""More than a few are for whoever wants to know: 200 take some minutes."""
# Each rank has a worker in a session of its own, one that is deaf to TERM, and one that has left its family behind.
PROGRAM = """\
setsid sh -c 'while :; do sleep 0.2; done' &
setsid sh -c 'trap "" TERM; while :; do sleep 0.2; done' &
sh -c '(setsid sh -c "while :; do sleep 0.2; done" &)'
echo up
while :; do sleep 0.2; done
"""


@pytest.fixture
def workspace(workspace: ad.Workspace) -> ad.Workspace:
    (workspace.path / "rank.sh").write_text(PROGRAM)
    return workspace


def folder_of(sshd: SshdNode, job: ad.Job) -> Path:
    return sshd.home / ".asyncdeploy/jobs" / job.id


def kill_one(dice: random.Random, nodes: Sequence[SshdNode], launch: ad.Launch, *, supervisor: bool) -> None:
    """Kill some process of some rank, or those who hold it."""
    rank = dice.randrange(len(nodes))
    folder = folder_of(nodes[rank], launch.jobs[rank])
    if supervisor:  # and its keeper, which would go on in its place
        kill_holders(folder)
        return
    found = [pid for pid in nodes[rank].processes() if pid != supervisor_of(folder)]
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(dice.choice(found), dice.choice([signal.SIGKILL, signal.SIGTERM]))
    leader = int((folder / "pid").read_text().split()[0])  # a part of a rank may die without harm: the rank follows
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)


@pytest.mark.timeout(60 + 12 * KILLS)
@pytest.mark.long
async def test_f8_no_orphan_whatever_is_killed(sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace) -> None:
    dice, nodes = random.Random(KILLS), sshd_nodes[:3]
    launcher = ad.Ranks("sh rank.sh", nproc_per_node=1)
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
        deployed = (await ad.deploy_all([each.node for each in nodes], workspace, ad.SystemEnv(), pool=pool)).unwrap()
    for number in range(KILLS):
        kind = ("watched", "unwatched", "supervisor", "stopped", "cancelled")[number % 5]
        async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
            starting = asyncio.create_task(ad.start_launch(pool, deployed, launcher, grace_s=0.3))
            if kind == "cancelled":
                await asyncio.wait([starting], timeout=dice.uniform(0, 0.5))
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError, DeployError):
                    await ad.end_launch(pool, await starting)
            else:
                launch = await starting
                await anyio.sleep(dice.uniform(0, 0.3))  # at any time of its life
                if kind == "stopped":
                    await ad.stop_launch(launch, pool=pool)
                else:
                    watching = asyncio.create_task(ad.wait_launch(launch, pool=pool)) if kind != "unwatched" else None
                    kill_one(dice, nodes, launch, supervisor=kind == "supervisor")
                    assert watching is None or not (await watching).ok
        for node in nodes:
            await eventually(
                lambda node=node: not node.processes(), f"nothing lives after {number}: {kind}", within_s=30
            )
