"""Ranks that nobody watches end together all the same: their supervisors know of each other."""

import select
import socket
import time
from collections.abc import Callable

import pytest

from asyncdeploy.fleet.launch import find_launch, wait_launch
from asyncdeploy.launch.gang.watch import end_launch
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.node_side.launch import gang
from asyncdeploy.values.errors import Cancelled, LaunchFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.links import WAITS, Bed, established, pair, ranks, talk
from tests.support.programs.holders import kill, named
from tests.support.waiting import eventually


async def test_f13_one_that_fails_ends_the_others_while_nobody_watches(
    start_machines: Callable[[int], list[SshdNode]], workspace: Workspace
) -> None:
    bed = Bed(tuple(start_machines(3)))
    fails = "until [ -e go ]; do sleep 0.05; done; echo it broke >&2; exit 7"
    launch = await bed.start(workspace, ranks(WAITS, f"trap '' TERM; {WAITS}", fails))
    await eventually(lambda: bed.marks(launch) == [0, 1])
    (bed.machines[2].home / "project" / "go").touch()
    await eventually(lambda: all(bed.exits(launch)), "every rank has ended", within_s=30)
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nothing lives")
    async with bed.pool() as pool:
        found = await find_launch([machine.node for machine in bed.machines], launch.id, pool=pool)
        report = await wait_launch(found, pool=pool)
    cause = failure_of(report)
    assert cause is not None
    assert (cause.node_rank, cause.status) == (2, 7)
    assert "it broke" in cause.evidence
    assert [type(outcome.error) for outcome in report] == [Cancelled, Cancelled, LaunchFailed]
    statuses = [outcome.value for outcome in report]
    assert [status.because for status in statuses if status] == ["node rank 2 (machine-2) exited 7"] * 2 + [""]


async def test_f5_a_rank_that_nobody_holds_is_ended_by_its_guard_while_nobody_watches(
    start_machines: Callable[[int], list[SshdNode]], workspace: Workspace
) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(WAITS, f"trap '' TERM; {WAITS}"), silence_s=1.0)
    await eventually(lambda: bed.marks(launch) == [0, 1])
    kill(*named(bed.machines[1], "adeploy-keep"), *named(bed.machines[1], "adeploy-job"))
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nothing lives", within_s=30)
    async with bed.pool() as pool:
        report = await wait_launch(launch, pool=pool)
    first, second = [outcome.value for outcome in report]
    assert first is not None
    assert first.because.startswith("node rank 1 (machine-1) ")
    assert second is not None
    assert second.state == "lost"


async def test_f13_the_first_node_may_be_the_one_that_fails(
    start_machines: Callable[[int], list[SshdNode]], workspace: Workspace
) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks("until [ -e go ]; do sleep 0.05; done; kill -9 $$", WAITS))
    await eventually(lambda: bed.marks(launch) == [1])
    (bed.machines[0].home / "project" / "go").touch()
    await eventually(lambda: all(bed.exits(launch)), "every rank has ended", within_s=30)
    async with bed.pool() as pool:
        cause = failure_of(await wait_launch(launch, pool=pool))
    assert cause is not None
    assert cause.node_rank == 0
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nobody lingers")


async def test_ends_at_different_times_are_a_success(
    start_machines: Callable[[int], list[SshdNode]], workspace: Workspace
) -> None:
    bed = Bed(tuple(start_machines(3)))
    late = "until [ -e go ]; do sleep 0.05; done"
    launch = await bed.start(workspace, ranks("true", late, "true"), silence_s=1.5)
    await eventually(lambda: bed.exits(launch) == [True, False, True])
    assert any("adeploy-job" in line or "python" in line for line in bed.machines[0].processes().values()), "it stays"
    (bed.machines[1].home / "project" / "go").touch()
    async with bed.pool() as pool:
        assert (await wait_launch(launch, pool=pool)).ok
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nobody lingers")


@pytest.mark.parametrize("silent", [0, 2])
async def test_f13_a_node_that_falls_silent_ends_the_others(
    network: Network, workspace: Workspace, silent: int
) -> None:
    bed = Bed(tuple(network.start(f"m{number}") for number in range(3)))
    launch = await bed.start(workspace, ranks(WAITS, WAITS, WAITS), silence_s=3)
    await eventually(lambda: len(bed.marks(launch)) == 3)
    await eventually(lambda: established(bed.machines[0]) == 2, "all are linked")
    network.cut(bed.machines[silent])
    others = [rank for rank in range(3) if rank != silent]
    await eventually(lambda: all(bed.exits(launch)[rank] for rank in others), "the others have ended", within_s=30)
    network.heal(bed.machines[silent])
    await eventually(lambda: all(bed.exits(launch)), "it hears of it or misses us, and ends too", within_s=30)
    async with bed.pool() as pool:
        report = await wait_launch(launch, pool=pool)
    cause = failure_of(report)
    assert cause is not None, "l4: nobody failed by himself, and all the same the launch has"
    assert "silent for 3 s" in cause.message
    assert cause.node_rank == silent, "most are right"
    why = [outcome.value.because for outcome in report if outcome.value is not None]
    assert any(f"node rank {silent} (m{silent})" in text and "silent" in text for text in why)
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nobody lingers", within_s=30)


async def test_h1_the_key_is_in_no_argument_list_no_file_and_no_rank(
    start_machines: Callable[[int], list[SshdNode]], workspace: Workspace
) -> None:
    bed = Bed(tuple(start_machines(2)))
    launch = await bed.start(workspace, ranks(f"env; {WAITS}", f"env; {WAITS}"))
    await eventually(lambda: len(bed.marks(launch)) == 2)
    for machine in bed.machines:
        assert all("silence_s" not in line for line in machine.processes().values())
        for path in machine.home.rglob("*"):
            if path.is_file():
                assert b"silence_s" not in path.read_bytes(), path
    async with bed.pool() as pool:
        await end_launch(pool, launch)


@pytest.mark.parametrize("lines", [("exit 3", WAITS, WAITS), (WAITS, WAITS, "exit 3"), ("true", WAITS, "exit 3")])
async def test_one_that_fails_before_anybody_is_linked_ends_all(
    start_machines: Callable[[int], list[SshdNode]], workspace: Workspace, lines: tuple[str, ...]
) -> None:
    bed = Bed(tuple(start_machines(3)))
    launch = await bed.start(workspace, ranks(*lines))
    await eventually(lambda: all(bed.exits(launch)), "every rank has ended", within_s=30)
    for machine in bed.machines:
        await eventually(lambda machine=machine: not machine.processes(), "nobody lingers")


# --- the protocol, between two ends of this process


def test_a_stranger_is_not_believed() -> None:
    hub, guest = pair()
    try:
        guest.key = b"another"
        guest.own_end("failed", "exited 1")
        assert not talk(hub, guest, lambda: bool(hub.heard_at or hub.because or guest.acknowledged), 50)
        with socket.create_connection(("127.0.0.1", hub.plan["port"])) as talker:
            talker.sendall(b"x" * 10_000)
            assert not talk(hub, guest, lambda: bool(hub.heard_at or hub.because), 20)
        hub.own_end("stopped", "was stopped")
        assert not hub.busy(), "who was stopped waits for nobody unheard of"
    finally:
        hub.close()
        guest.close()


def test_who_was_stopped_does_not_wait_for_one_whose_link_is_gone() -> None:
    hub, guest = pair()
    try:
        assert talk(hub, guest, lambda: guest.heard_at is not None)
        hub.own_end("stopped", "was stopped")
        assert hub.busy(), "it may not know yet"
        guest.close()  # its supervisor was killed
        for _ in range(200):
            hub.tick(time.monotonic())
            if not hub.links:
                break
            select.select(hub.fds(), [], [], 0.01)
        assert not hub.links
        hub.heard_at[1] -= gang.RETURN_S
        assert not hub.busy()
    finally:
        hub.close()


def test_who_was_stopped_does_not_wait_to_be_heard_by_a_first_node_that_is_gone() -> None:
    hub, guest = pair()
    try:
        assert talk(hub, guest, lambda: guest.heard_at is not None)
        hub.close()  # its supervisor was killed
        for _ in range(200):
            guest.tick(time.monotonic())
            if guest.link is None:
                break
            select.select(guest.fds(), [], [], 0.01)
        guest.own_end("stopped", "died of signal 15")
        assert guest.busy(), "it may come back"
        assert guest.heard_at is not None
        guest.heard_at -= gang.RETURN_S
        assert not guest.busy()
    finally:
        guest.close()


def test_a_first_node_that_stood_still_ends_when_it_hears_that_the_others_have() -> None:
    """Its kernel took their words while it could not; it stayed for ever."""
    hub, guest = pair()
    try:
        assert talk(hub, guest, lambda: guest.heard_at is not None)
        guest.tick(time.monotonic() + 61)
        assert guest.because == "node rank 0 (a) was silent for 60 s"
        guest.own_end("told", "died of signal 15")
        guest.tick(time.monotonic())
        assert talk(hub, guest, lambda: bool(hub.because))
        assert hub.because == "node rank 0 (a) was silent, and node rank 1 (b) has ended because of it"
    finally:
        hub.close()
        guest.close()


def test_what_is_told_once_stays_the_reason() -> None:
    hub, guest = pair()
    try:
        assert talk(hub, guest, lambda: guest.heard_at is not None)
        guest.own_end("failed", "exited 1")
        assert guest.busy()
        assert talk(hub, guest, lambda: guest.acknowledged)
        assert hub.because == "node rank 1 (b) exited 1"
        assert not guest.busy()
        hub.own_end("failed", "exited 2")
        assert not hub.busy()
        assert hub.because == "node rank 1 (b) exited 1"
    finally:
        hub.close()
        guest.close()


def test_a_link_that_breaks_is_made_again() -> None:
    hub, guest = pair()
    try:
        assert talk(hub, guest, lambda: guest.heard_at is not None)
        hub.links[0].sock.shutdown(socket.SHUT_RDWR)
        guest.own_end("ok", "exited 0")
        assert talk(hub, guest, lambda: guest.acknowledged, 500)
        assert (hub.ended, hub.because) == ({1: "ok"}, "")
    finally:
        hub.close()
        guest.close()


def test_who_was_never_heard_of_is_not_waited_for_without_end() -> None:
    hub, guest = pair()
    try:
        now = time.monotonic()
        hub.tick(now + 59)
        assert not hub.because
        hub.tick(now + 61)
        assert hub.because == "node rank 1 (b) fell silent for 60 s"
    finally:
        hub.close()
    try:
        for later in range(0, 180, 10):  # the first node may have to wait for its port
            guest.tick(now + later)
        assert not guest.because
        guest.tick(now + 181)
        assert guest.because == "node rank 0 (a) has not been heard of since the start, for over 60 s"
        guest.own_end("told", "died of signal 15")
        assert not guest.busy()
    finally:
        guest.close()
