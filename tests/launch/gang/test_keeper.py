"""J12: of the three that watch over a rank any two may be killed; a healthy rank goes on where one of them can tell."""

from collections.abc import Callable, Sequence

import pytest

import asyncdeploy as ad
from asyncdeploy.launch.root_cause.judge import failure_of
from tests.support.beds.sshd_node import SshdNode
from tests.support.links import WAITS, Bed, ranks
from tests.support.programs.holders import kill, named, no_descriptors
from tests.support.waiting import eventually

Machines = Callable[[int], list[SshdNode]]
UNTIL_GO = "echo up; until [ -e go ]; do echo here; sleep 0.1; done"


def let_go(bed: Bed, *numbers: int) -> None:
    for number in numbers:
        (bed.machines[number].home / "project" / "go").touch()


def lines(bed: Bed, launch: ad.Launch) -> list[int]:
    """How many lines each of the first two ranks has printed."""
    logs = [
        machine.home / ".asyncdeploy/jobs" / job.id / "log"
        for machine, job in list(zip(bed.machines, launch.jobs, strict=True))[:2]
    ]
    return [log.read_text().count("here") for log in logs]


async def nothing_lives(machines: Sequence[SshdNode]) -> None:
    for machine in machines:
        await eventually(lambda machine=machine: not machine.processes(), "nothing lives")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("who", [("adeploy-job",), ("adeploy-job", "adeploy-guard"), ("adeploy-keep", "adeploy-guard")])
async def test_j12_a_launch_whose_watchers_are_killed_goes_on(
    start_machines: Machines, workspace: ad.Workspace, who: tuple[str, ...], rank: int
) -> None:
    """One rank has ended and left before; the keeper of node rank 0 knows that it did not fall silent."""
    bed = Bed(tuple(start_machines(3)))
    launch = await bed.start(workspace, ranks(UNTIL_GO, UNTIL_GO, "echo up"), silence_s=2.0)
    await eventually(lambda: bed.marks(launch) == [0, 1, 2] and bed.exits(launch)[2])
    await nothing_lives(bed.machines[2:])
    kill(*[pid for name in who for pid in named(bed.machines[rank], name)])
    async with bed.pool() as pool:
        await eventually(lambda: min(lines(bed, launch)) > 40, "both run on for twice as long as a silence may last")
        let_go(bed, 0, 1)
        report = await ad.wait_launch(launch, pool=pool)
    assert [status.exit_status for status in report.unwrap()] == [0, 0, 0]
    await nothing_lives(bed.machines)


@pytest.mark.parametrize("rank", [0, 1])
async def test_j12_an_end_that_a_keeper_hears_ends_the_others(
    start_machines: Machines, workspace: ad.Workspace, rank: int
) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(*(f"{UNTIL_GO}; exit 7" if each == rank else WAITS for each in (0, 1))))
    await eventually(lambda: bed.marks(launch) == [0, 1])
    kill(*named(bed.machines[rank], "adeploy-job"))
    let_go(bed, rank)
    await nothing_lives(bed.machines)
    async with bed.pool() as pool:
        cause = failure_of(await ad.wait_launch(launch, pool=pool))
    assert cause is not None
    assert (cause.node_rank, cause.status) == (rank, 7)


async def test_j12_a_guard_that_is_killed_is_replaced(start_machines: Machines, workspace: ad.Workspace) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(UNTIL_GO, UNTIL_GO), silence_s=1.0)
    await eventually(lambda: bed.marks(launch) == [0, 1])
    for _ in range(3):
        before = named(bed.machines[1], "adeploy-guard")
        kill(*before)
        await eventually(lambda before=before: set(named(bed.machines[1], "adeploy-guard")) - set(before), "a new one")
    kill(*named(bed.machines[1], "adeploy-job"), *named(bed.machines[1], "adeploy-keep"))
    await nothing_lives(bed.machines)


async def test_j12_where_all_three_are_killed_the_other_nodes_end_and_a_stop_ends_the_rank(
    start_machines: Machines, workspace: ad.Workspace
) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(WAITS, WAITS), silence_s=1.0)
    await eventually(lambda: bed.marks(launch) == [0, 1])
    kill(*(pid for name in ("adeploy-job", "adeploy-keep", "adeploy-guard") for pid in named(bed.machines[1], name)))
    await nothing_lives(bed.machines[:1])
    async with bed.pool() as pool:
        await ad.stop_launch(launch, pool=pool)
    await nothing_lives(bed.machines)


async def test_j12_a_guard_that_has_no_descriptor_ends_its_rank_when_it_has_one(
    start_machines: Machines, workspace: ad.Workspace
) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(WAITS, WAITS), silence_s=1.0)
    await eventually(lambda: bed.marks(launch) == [0, 1])
    (guard,) = named(bed.machines[1], "adeploy-guard")
    with no_descriptors(guard):
        kill(*named(bed.machines[1], "adeploy-job"), *named(bed.machines[1], "adeploy-keep"))
        await nothing_lives(bed.machines[:1])
    await nothing_lives(bed.machines)
