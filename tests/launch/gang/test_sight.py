"""That we cannot see a node stops no rank: the ranks watch over each other."""

import asyncio
from collections.abc import Sequence

import pytest

import asyncdeploy as ad
from asyncdeploy.launch.root_cause.judge import failure_of
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.launched import launched
from tests.support.programs.holders import named
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does not answer is noticed within seconds here, and not within the better part of a minute."""
    monkeypatch.setattr("asyncdeploy.launch.gang.sight.ASK_S", 2.0)
    monkeypatch.setattr("asyncdeploy.launch.gang.sight.NOTE_S", 1.0)
    monkeypatch.setattr("asyncdeploy.launch.gang.sight.LAST_PAUSE_S", 1.0)
    monkeypatch.setattr("asyncdeploy.run.job_ask.ANSWER_S", 2.0)


def let_go(nodes: Sequence[SshdNode]) -> None:
    for sshd in nodes:
        (sshd.home / "project" / "go").touch()


def supervisors(nodes: Sequence[SshdNode]) -> int:
    return sum(len(named(sshd, "adeploy-job")) for sshd in nodes)


@pytest.mark.long
async def test_l1_our_own_blindness_stops_nobody(network: Network, workspace: ad.Workspace) -> None:
    nodes = [network.start(name) for name in ("a", "b")]
    async with launched(nodes, workspace) as (pool, launch, seen):
        watching = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        async with ad.follow_launch(launch, pool=pool) as lines:
            assert [(await anext(lines)).text for _ in nodes] == ["up", "up"]
            for sshd in nodes:
                network.hide(sshd)
            await eventually(lambda: len(notes(seen, "is asked on")) >= 2, "it says that it sees nothing", within_s=60)
            assert supervisors(nodes) == 2, "both run"
            for sshd in nodes:
                network.heal(sshd)
            await eventually(lambda: notes(seen, "it answers again"), "it sees again", within_s=60)
            assert supervisors(nodes) == 2, "both run on"
            let_go(nodes)
            assert sorted([line.text async for line in lines]) == ["done", "done"]
        assert (await watching).ok
        assert lines.report is not None
        assert lines.report.ok
        assert not notes(seen, "are stopped")


async def test_l1_one_node_out_of_our_sight_is_left_alone_while_another_runs(
    network: Network, workspace: ad.Workspace
) -> None:
    nodes = [network.start(name) for name in ("a", "b")]
    async with launched(nodes, workspace) as (pool, launch, seen):
        network.hide(nodes[1])
        watching = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        await eventually(lambda: notes(seen, "is asked on"), "it says that it sees nothing", within_s=60)
        assert supervisors(nodes) == 2, "both run"
        let_go(nodes)
        await eventually(lambda: supervisors(nodes) == 0, "both have ended")
        network.heal(nodes[1])
        assert (await watching).ok


async def test_l1_what_nobody_can_see_is_unknown_and_lives(network: Network, workspace: ad.Workspace) -> None:
    nodes = [network.start(name) for name in ("a", "b")]
    async with launched(nodes, workspace) as (pool, launch, seen):
        for sshd in nodes:
            network.hide(sshd)
        report = await ad.wait_launch(launch, away_s=0.5, pool=pool)
        assert [outcome.state for outcome in report] == ["unknown", "unknown"]
        assert failure_of(report) is not None
        assert supervisors(nodes) == 2, "both run"
        assert not notes(seen, "are stopped")
        for sshd in nodes:
            network.heal(sshd)
        let_go(nodes)
        assert (await ad.wait_launch(launch, pool=pool)).ok
