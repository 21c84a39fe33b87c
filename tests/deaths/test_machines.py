"""A whole machine stands still, or its clock is set: the healthy ones are not taken for the cause."""

import signal
from collections.abc import Callable

import pytest

import asyncdeploy as ad
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.remote.interpreter import _WORKER_LINE
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths import victims
from tests.support.launched import WAITS, launched
from tests.support.links import WAITS as STAYS, Bed, established, ranks
from tests.support.waiting import eventually

Machines = Callable[[int], list[SshdNode]]
# From when the file ~/0 is there a node's Python sees another time. No quotes: it is part of a shell's line.
_THERE = "os.path.exists(os.path.expanduser(chr(126))+chr(47)+chr(48))"
SHIFT = f"import os,time;_t=time.time;time.time=lambda:_t()+({{ahead_s}})*{_THERE};"


def move_clock(sshd: SshdNode) -> None:
    (sshd.home / "0").touch()


@pytest.fixture(params=[-90, 90])
def ahead_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """For how many seconds a clock is set ahead when it is set."""
    line = _WORKER_LINE.replace("import os,sys,", SHIFT.format(ahead_s=request.param) + "import os,sys,")
    monkeypatch.setattr("asyncdeploy.remote.interpreter._WORKER_LINE", line)
    return int(request.param)


@pytest.mark.parametrize("still", [0, 1])
async def test_a_node_that_stands_still_ends_the_others_and_then_itself(
    start_machines: Machines, workspace: ad.Workspace, still: int
) -> None:
    """As a laptop's lid, or a host that takes all time from its guests."""
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(STAYS, STAYS), silence_s=2.0)
    await eventually(lambda: bed.marks(launch) == [0, 1])
    await eventually(lambda: established(bed.machines[0]) == 1, "they are linked")
    frozen = bed.machines[still]
    pids = [frozen.pid, *frozen.sessions(), *frozen.processes()]
    victims.send(pids, signal.SIGSTOP)
    try:
        await eventually(lambda: bed.exits(launch)[1 - still], "the other one has ended", within_s=30)
        assert not bed.exits(launch)[still]
    finally:
        victims.send(pids, signal.SIGCONT)
    await eventually(lambda: all(bed.exits(launch)), "it misses the other one, and ends too", within_s=30)
    async with bed.pool() as pool:
        report = await ad.wait_launch(launch, pool=pool)
    cause = failure_of(report)
    assert cause is not None
    assert f"node rank {still} (machine-{still}) " in cause.message
    assert "silent" in cause.message
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nobody lingers", within_s=30)


@pytest.mark.parametrize("moved", [0, 1])
async def test_l2_a_clock_that_is_set_makes_no_healthy_node_the_cause(
    start_machines: Machines, workspace: ad.Workspace, ahead_s: int, moved: int
) -> None:
    nodes = start_machines(2)
    line = f"if test $NODE_RANK = 0; then {STAYS}; fi; until [ -e go ]; do sleep 0.05; done; exit 7"
    async with launched(nodes, workspace, line) as (pool, launch, _):
        move_clock(nodes[moved])
        facts = await ad.probe_node(pool.at(nodes[moved].node), fresh=True)
        assert abs(facts.clock_offset_s - ahead_s) < 20
        (nodes[1].home / "project" / "go").touch()
        cause = failure_of(await ad.wait_launch(launch, pool=pool))
    assert cause is not None
    assert (cause.node_rank, cause.status) == (1, 7)


async def test_a_clock_that_is_set_ends_nothing(
    start_machines: Machines, workspace: ad.Workspace, ahead_s: int
) -> None:
    """Silences and time limits are counted by the kernel's clock, which nobody sets."""
    nodes = start_machines(2)
    async with launched(nodes, workspace, WAITS, silence_s=3.0) as (pool, launch, _):
        limited = ad.Command("until [ -e go ]; do sleep 0.05; done", timeout_s=60)
        job = await ad.start_job(pool.at(nodes[1].node), limited, name="limited")
        move_clock(nodes[1])
        assert (await ad.wait_job(pool.at(nodes[1].node), job, timeout_s=4)).state == "running"
        for sshd in nodes:
            (sshd.home / "go").touch()
            (sshd.home / "project" / "go").touch()
        assert (await ad.wait_launch(launch, pool=pool)).ok
        assert (await ad.wait_job(pool.at(nodes[1].node), job)).ok
