"""Why a launch failed, asked by somebody who only looks: nobody is waited for, and nothing ends because of it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.launched import launched

DEAF = "trap '' TERM; echo on; test $NODE_RANK = 1 && exit 7; while :; do sleep 0.1; done"


@pytest.fixture
def workspace(project: Path) -> ad.Workspace:
    (project / "a.txt").write_text("a\n")
    return ad.Workspace(project)


async def test_a_rank_that_runs_is_left_running_and_accused_of_nothing(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    async with launched(sshd_nodes[:2], workspace, DEAF, grace_s=60) as (pool, launch, events):
        await ad.wait_job(pool.at(launch.nodes[1]), launch.jobs[1])
        events.clear()
        why = await ad.explain_launch(launch, pool=pool)
        assert why is not None
        assert (why.node, why.status) == (launch.nodes[1].name, 7)
        assert "stopped because of it" not in why.message
        (consequence,) = why.consequences
        assert consequence.startswith(launch.nodes[0].name)
        assert consequence.endswith("is running")
        assert (await ad.job_status(pool.at(launch.nodes[0]), launch.jobs[0])).state == "running"
        assert not [event for event in events if isinstance(event, ad.Noted)], "nobody is said to have been stopped"
        await ad.stop_launch(launch, grace_s=0, pool=pool)


async def test_of_nodes_that_do_not_answer_nobody_is_accused(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    async with launched(sshd_nodes[:2], workspace, "true") as (pool, launch, _):
        assert (await ad.wait_launch(launch, pool=pool)).ok
        sshd_nodes[0].stop()
        try:
            async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as other:
                assert (await ad.launch_status(launch, pool=other)).state == "UNKNOWN"
                assert await ad.explain_launch(launch, pool=other) is None
        finally:
            sshd_nodes[0].start()
