"""Which connection and channel a line gets: few of each, lent again, first come first served."""

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from asyncdeploy.connect.pool import Limits
from asyncdeploy.remote.transport import Exit
from asyncdeploy.values.events import Event, StageFinished, StageStarted
from tests.support.beds.pools import answer, pool_for, run_line
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]


async def test_one_connection_for_many_lines_at_once(sshd_nodes: tuple[SshdNode, ...]) -> None:
    events: list[Event] = []
    node = sshd_nodes[0].node
    async with pool_for(sshd_nodes[0], observer=events.append, limits=Limits(connections_per_node=1)) as pool:
        done = await asyncio.gather(*(run_line(pool, node, f"echo {number}") for number in range(20)))
        assert [out for out, _ in done] == [b"%d\n" % number for number in range(20)]
    assert [type(event) for event in events] == [StageStarted, StageFinished]
    assert pool.at(node) is pool.at(attrs.evolve(node))


@pytest.mark.parametrize("sessions", [3, 1])
async def test_a2_a3_few_sessions_serve_many_lines(start_sshd: StartSshd, sessions: int) -> None:
    sshd = start_sshd("few", config={"MaxSessions": sessions})
    async with pool_for(sshd) as pool:
        done = await asyncio.gather(*(run_line(pool, sshd.node, "exit 7") for _ in range(50)))
        assert done == [(b"", Exit(7))] * 50
        assert all(connection.taken == 0 for connection in pool.at(sshd.node)._slots.connections)


async def test_a_channel_given_back_is_lent_again_to_its_kind(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        remote = pool.at(sshd_nodes[0].node)
        channel = await remote.open("exec cat", kind="cat")
        channel.notes["known"] = True
        assert not channel.reused
        remote.give_back(channel, "cat")
        other = await remote.open("exec cat", kind="dog")
        again = await remote.open("exec cat", kind="cat")
        assert other is not channel
        assert again is channel
        assert again.reused
        assert again.notes == {"known": True}
        again.send(b"miau")
        assert await again.read() == b"miau"
        await again.close()
        await other.close()


async def test_a_channel_that_ended_while_idle_is_not_lent(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0], limits=Limits(channels_per_connection=1, connections_per_node=1)) as pool:
        remote = pool.at(sshd_nodes[0].node)
        channel = await remote.open("read gone", kind="k")
        remote.give_back(channel, "k")
        channel.send(b"\n")
        await eventually(lambda: channel.ended)
        fresh = await remote.open("echo new", kind="k")
        assert fresh is not channel
        assert (await answer(fresh))[0] == b"new\n"


async def test_an_idle_channel_makes_room_for_another_kind(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0], limits=Limits(channels_per_connection=1, connections_per_node=1)) as pool:
        remote = pool.at(sshd_nodes[0].node)
        idle = await remote.open("exec cat", kind="cat")
        remote.give_back(idle, "cat")
        assert (await run_line(pool, remote.node, "echo room"))[0] == b"room\n"
        assert remote._slots.idle == []
        assert remote._slots.connections[0].taken == 0


async def test_who_waits_longest_is_served_first(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0], limits=Limits(channels_per_connection=1, connections_per_node=1)) as pool:
        remote = pool.at(sshd_nodes[0].node)
        first = await remote.open("exec cat", kind="cat")
        served: list[int] = []

        async def wait(number: int) -> None:
            channel = await remote.open("exec cat", kind="cat" if number % 2 else None)
            served.append(number)
            if number % 2:
                remote.give_back(channel, "cat")
            else:
                await channel.close()

        tasks = [asyncio.create_task(wait(number)) for number in range(6)]
        await eventually(lambda: len(remote._slots.queue) == 6)
        remote.give_back(first, "cat")
        await asyncio.gather(*tasks)
        assert served == list(range(6))


async def test_all_slots_taken_opens_a_second_connection_and_no_third(sshd_nodes: tuple[SshdNode, ...]) -> None:
    limits = Limits(channels_per_connection=1, connections_per_node=2)
    async with pool_for(sshd_nodes[0], limits=limits) as pool:
        remote = pool.at(sshd_nodes[0].node)
        one, two = await remote.open("exec cat"), await remote.open("exec cat")
        third = asyncio.create_task(remote.open("echo 3"))
        await eventually(lambda: len(remote._slots.queue) == 1)
        assert len(remote._slots.connections) == 2
        await one.close()
        assert (await answer(await third))[0] == b"3\n"
        await two.close()


@pytest.mark.parametrize("values", [{"connects_at_once": 0}, {"keepalive_s": -1}, {"connects_per_endpoint": 2.5}])
def test_limits_refuse_what_is_no_limit(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(values))):
        Limits(**values)
