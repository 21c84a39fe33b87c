"""A rank, or a part of one, dies or stands still: who is told, who ends, and what is said of it."""

import asyncio
import os
import signal
from collections.abc import Sequence

import asyncdeploy as ad
from asyncdeploy.launch.root_cause.judge import failure_of
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths import victims
from tests.support.events import notes
from tests.support.launched import launched
from tests.support.waiting import eventually

# Each is in a loop of its own below the leader of its node, as ranks are.
RANK = "echo $$ >pid-$LOCAL_RANK; echo up; while :; do sleep 0.1; done"


async def test_one_local_rank_that_dies_ends_those_beside_it_and_all_others(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    nodes = sshd_nodes[:2]
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
        deployed = await ad.deploy_all([sshd.node for sshd in nodes], workspace, ad.SystemEnv(), pool=pool)
        launch = await ad.start_launch(pool, deployed.unwrap(), ad.Ranks(RANK, nproc_per_node=2), grace_s=1)
        pids = [sshd.home / "project" / f"pid-{rank}" for sshd in nodes for rank in range(2)]
        await eventually(lambda: all(path.exists() and path.read_text().strip() for path in pids), "all four are up")
        os.kill(int(pids[3].read_text()), signal.SIGKILL)
        report = await ad.wait_launch(launch, pool=pool)
    cause = failure_of(report)
    assert cause is not None
    assert (cause.node_rank, cause.local_rank, cause.rank) == (1, 1, 3), cause
    assert "rank 3 (SIGKILL) on node-1" in cause.message
    assert [outcome.state for outcome in report] == ["cancelled", "failed"]
    first, second = [outcome.value for outcome in report]
    assert first is not None
    assert first.because or first.stopped, "who was told, and why"
    assert second is not None
    assert not second.stopped
    for sshd in nodes:
        await eventually(lambda sshd=sshd: not sshd.processes(), "nothing lives")


async def test_a_rank_that_stands_still_is_said_and_can_be_stopped(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, workspace, "echo up; while :; do sleep 0.1; done", silence_s=1.5) as (
        pool,
        launch,
        seen,
    ):
        watching = asyncio.create_task(ad.wait_launch(launch, silent_after_s=1.5, pool=pool))
        (leader,) = victims.find(nodes[1], "leader")
        os.kill(leader, signal.SIGSTOP)
        await eventually(lambda: notes(seen, "has printed anything"), "it is said")
        assert all(victims.find(sshd, "leader") for sshd in nodes), "nobody stops it by himself"
        await ad.stop_launch(launch, grace_s=0.5, pool=pool)
        report = await watching
    assert not report.ok
    assert report.outcomes[1].value is not None
    assert report.outcomes[1].value.signal == "KILL"
