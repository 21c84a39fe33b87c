"""Who only looks at a launch: nothing is stopped because of it, and what is there is given."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.launched import launched

STAYS = "echo up; printf half; until [ -e go ]; do sleep 0.1; done; test $NODE_RANK = 1 && exit 7; echo; echo done"


@pytest.fixture
def workspace(project: Path) -> ad.Workspace:
    (project / "a.txt").write_text("a\n")
    return ad.Workspace(project)


async def test_lines_until_now_end_although_the_launch_goes_on(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    async with launched(sshd_nodes[:2], workspace, STAYS) as (pool, launch, _):
        said: list[str] = []
        while said != ["up", "up"]:
            async with ad.follow_launch(launch, look="now", pool=pool) as lines:
                said = [line.text async for line in lines]
            assert lines.report is None
        states = [await ad.job_status(pool.at(job.node), job) for job in launch.jobs]
        assert [status.state for status in states] == ["running", "running"]
        await ad.stop_launch(launch, pool=pool)
        async with ad.follow_launch(launch, look="now", pool=pool) as lines:  # of one that has ended, its last line too
            assert sorted([line.text async for line in lines]) == ["half", "half", "up", "up"]


async def test_who_follows_without_watching_stops_nobody(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    line = "echo up $NODE_RANK; until [ -e go ]; do sleep 0.1; done; echo over"
    async with launched(sshd_nodes[:2], workspace, line) as (pool, launch, _):

        async def follow() -> list[str]:
            async with ad.follow_launch(launch, look="follow", pool=pool) as lines:
                said = [line.text async for line in lines]
                assert lines.report is None
                return said

        following = asyncio.create_task(follow())
        for each in sshd_nodes[:2]:
            (each.home / "project" / "go").touch()
        assert sorted(await asyncio.wait_for(following, 60)) == ["over", "over", "up 0", "up 1"]
        assert (await ad.wait_launch(launch, pool=pool)).ok


async def test_another_look_is_refused(sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace) -> None:
    async with launched(sshd_nodes[:1], workspace, "true") as (pool, launch, _):
        await ad.wait_launch(launch, pool=pool)
        with pytest.raises(ValueError, match="'watch', 'follow' or 'now'"):
            async with ad.follow_launch(launch, look="away", pool=pool):  # type: ignore[arg-type]
                pass
