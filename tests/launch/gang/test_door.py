"""Strangers and crowds at the port of a launch's link."""

import contextlib
import resource
import select
import socket
import time
from pathlib import Path

import pytest

from asyncdeploy.fleet.launch import wait_launch
from asyncdeploy.node_side.launch import door, gang
from asyncdeploy.node_side.launch.link import GREETING_S
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.network import Network
from tests.support.links import PLAN, WAITS, Bed, established, free_port, pair, ranks, sockets, talk
from tests.support.waiting import eventually


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_l11_a_crowd_at_the_link_port_costs_no_rank_its_life(network: Network, workspace: Workspace) -> None:
    """The attack itself: far more idle connections than the supervisor may open files."""
    bed = Bed(tuple(network.start(f"m{number}") for number in range(2)))
    resource.prlimit(bed.machines[0].pid, resource.RLIMIT_NOFILE, (128, 128))
    fails = "echo up; until [ -e go ]; do sleep 0.05; done; exit 7"
    launch = await bed.start(workspace, ranks(WAITS, fails))
    await eventually(lambda: bed.marks(launch) == [0, 1] and established(bed.machines[0]) == 1, "all are linked")
    (place,) = sockets(bed.machines[0], "0A")
    address, port = network.address(bed.machines[0]), int(place.partition(":")[2], 16)
    assert place.partition(":")[0] == socket.inet_aton(address)[::-1].hex().upper(), "it listens there alone"
    with contextlib.ExitStack() as crowd:
        for _ in range(400):
            crowd.enter_context(socket.create_connection((address, port)))
        (supervisor,) = [
            pid for pid in bed.machines[0].processes() if Path(f"/proc/{pid}/comm").read_text() == "adeploy-job\n"
        ]
        await eventually(lambda: open_files(supervisor) > 30, "the crowd is there")
        assert open_files(supervisor) <= 128 - door.RESERVED
        (bed.machines[1].home / "project" / "go").touch()
        await eventually(lambda: all(bed.exits(launch)), "the guest was heard all the same", within_s=30)
    async with bed.pool() as pool:
        first, _ = [outcome.value for outcome in await wait_launch(launch, pool=pool)]
    assert first is not None
    assert first.because == "node rank 1 (m1) exited 7"


def test_l11_strangers_are_few_and_wake_nobody_while_they_wait() -> None:
    hub, guest = pair()
    hub.door.most_strangers = 3
    try:
        with contextlib.ExitStack() as crowd:
            place = ("127.0.0.1", hub.plan["port"])
            idle = [crowd.enter_context(socket.create_connection(place)) for _ in range(8)]
            now = time.monotonic()
            for _ in range(5):
                hub.tick(now)
            assert len(hub.door.strangers) == 3
            assert select.select(hub.fds(), [], [], 0)[0] == [], "who waits for his turn must not wake us all the time"
            first = hub.door.strangers[0]
            first.since -= door.TURN_S
            hub.tick(time.monotonic())
            assert first not in hub.door.strangers
            assert len(hub.door.strangers) == 3
            assert talk(hub, guest, lambda: guest.heard_at is not None, 2000), "an honest guest has his turn too"
            link = hub.door.guests[1]
            hub.tick(now + 2 * GREETING_S)
            hub.tick(now + 4 * GREETING_S)
            assert hub.door.guests == {1: link}, "who has proven himself stays"
            assert idle[0].recv(100).endswith(b"\n")
    finally:
        hub.close()
        guest.close()


@pytest.mark.parametrize("room", [None, 40], ids=["enough", "fewer descriptors than guests"])
def test_l11_a_thousand_honest_guests_are_heard(room: int | None) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1000 if room is None else 100
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2 * count + 200:
        pytest.skip("this process may not open so many files")
    plan = {**PLAN, "count": count + 1, "names": [str(rank) for rank in range(count + 1)]}
    hub, guests = gang.Hub({**plan, "port": free_port(), "rank": 0, "name": "0"}), list[gang.Guest]()
    hub.door.most = hub.door.most if room is None else room
    try:
        guests += [
            gang.Guest({**plan, "port": hub.plan["port"], "rank": rank, "name": ""}) for rank in range(1, count + 1)
        ]
        deadline = time.monotonic() + 60
        while len(hub.heard_at) < count and time.monotonic() < deadline:
            for guest in guests:
                guest.tick(time.monotonic())
            hub.tick(time.monotonic())
        assert len(hub.heard_at) == count
        assert room is None or len(hub.door.by_fd) <= room
        assert room is not None or len(hub.door.guests) == count
    finally:
        hub.close()
        for guest in guests:
            guest.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
