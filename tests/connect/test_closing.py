"""Cancelled opens, closing, and peers that fall silent."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import attrs
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.run import run_all
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Exit
from asyncdeploy.values.errors import Abandoned, Cancelled, ConnectionLost
from asyncdeploy.values.events import Event, StageFinished, StageStarted
from tests.support.beds.pools import answer, pool_for, run_line
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]


async def test_a_cancelled_open_frees_its_slot_on_the_node(start_sshd: StartSshd) -> None:
    sshd = start_sshd("slow", config={"MaxSessions": 2})
    async with pool_for(sshd, limits=Limits(connections_per_node=1, channels_per_connection=2)) as pool:
        remote = pool.at(sshd.node)
        await run_line(pool, sshd.node, "true")
        for yields in range(30):
            task = asyncio.create_task(remote.open("exec cat"))
            for _ in range(yields):
                await asyncio.sleep(0)
            task.cancel()
            for channel in await asyncio.gather(task, return_exceptions=True):
                if not isinstance(channel, BaseException):
                    await channel.close()
        assert remote._slots.connections[0].taken == 0
        assert await asyncio.gather(*(run_line(pool, sshd.node, "exit 5") for _ in range(4))) == [(b"", Exit(5))] * 4


async def test_a_cancelled_connect_leaves_nothing_and_the_next_one_connects(sshd_nodes: tuple[SshdNode, ...]) -> None:
    node = sshd_nodes[0].node
    async with pool_for(sshd_nodes[0]) as pool:
        for wait_s in (0, 0.002, 0.005, 0.01, 0.02, 0.04):
            attempt = asyncio.create_task(pool.at(node).open("true"))
            patient = asyncio.create_task(pool.at(node).open("echo mine"))
            await asyncio.sleep(wait_s)
            attempt.cancel()
            first, second = await asyncio.gather(attempt, patient, return_exceptions=True)
            if not isinstance(first, BaseException):
                await first.close()
            assert not isinstance(second, BaseException), second
            assert (await answer(second))[0] == b"mine\n"
            sshd_nodes[0].end_sessions()
            await eventually(lambda: not any(connection.inner.alive for connection in pool.at(node)._slots.connections))


async def test_a_cancelled_connect_to_a_silent_server_is_back_at_once(silent_port: int, key_path: str) -> None:
    node = Node("127.0.0.1", user="root", port=silent_port, key_path=key_path)
    async with Pool(host_keys=HostKeys.pinned({})) as pool:
        task = asyncio.create_task(pool.at(node).open("true"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)


async def test_closing_ends_who_waits(sshd_nodes: tuple[SshdNode, ...]) -> None:
    limits = Limits(channels_per_connection=1, connections_per_node=1)
    async with pool_for(sshd_nodes[0], limits=limits) as pool:
        remote = pool.at(sshd_nodes[0].node)
        channel = await remote.open("exec cat")
        waiting = asyncio.create_task(remote.open("true"))
        await eventually(lambda: len(remote._slots.queue) == 1)
    with pytest.raises(Cancelled):
        await waiting
    with pytest.raises(Cancelled):
        await remote.open("true")
    with pytest.raises(Abandoned) as caught:
        await channel.read()
    assert (caught.value.outcome, caught.value.message) == ("unknown", "the pool was closed while a line ran there")
    await channel.close()


async def test_r11_a_run_under_which_the_pool_is_closed_says_so(start_sshd: StartSshd) -> None:
    sshd = start_sshd("closed")
    async with pool_for(sshd) as pool:
        running = asyncio.create_task(run_all(sshd.node, "echo there; exec sleep 600", pool=pool))
        await eventually(lambda: "sleep 600" in sshd.processes().values())
        await pool.close()
        await pool.close()
        (outcome,) = await running
    assert outcome.state == "unknown"
    assert isinstance(outcome.error, Cancelled)
    assert outcome.error.describe() == (
        "closed: the pool was closed while a line ran there\n"
        "hint: what runs attached is ended by its leash; that was not waited for"
    )
    await eventually(lambda: not sshd.processes(), "the leash has ended it")
    with pytest.raises(RuntimeError, match="was closed; make another one"):
        async with pool:
            pass


async def test_k19_a_dropped_node_is_connected_anew(start_sshd: StartSshd) -> None:
    sshd, other = start_sshd("again"), start_sshd("other")
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        running = asyncio.create_task(run_all(sshd.node, "exec sleep 600", pool=pool))
        untouched = asyncio.create_task(run_all(other.node, "cat /proc/sys/kernel/ostype", pool=pool))
        await eventually(lambda: "sleep 600" in sshd.processes().values())
        remote.memory["facts"] = "of a machine that is gone"
        before = remote._slots.connections[0]
        await pool.drop(sshd.node)
        (outcome,) = await running
        assert isinstance(outcome.error, Abandoned)
        assert outcome.error.message == "its connections were dropped (Pool.drop) while a line ran there"
        assert "facts" not in remote.memory
        assert (await run_line(pool, sshd.node, "echo in"))[0] == b"in\n"
        assert pool.at(sshd.node) is remote
        assert before not in remote._slots.connections
        assert (await untouched).ok
        await pool.drop(attrs.evolve(sshd.node, name="never-used"))
    await eventually(lambda: not sshd.processes(), "the leash has ended it")


async def test_k19_a_connection_that_is_being_made_when_its_node_is_dropped_is_made_again(
    start_sshd: StartSshd,
) -> None:
    sshd = start_sshd("twice")
    events: list[Event] = []
    async with pool_for(sshd, observer=events.append) as pool:
        opening = asyncio.create_task(run_line(pool, sshd.node, "echo in"))
        await eventually(lambda: events)
        await pool.drop(sshd.node)
        assert (await opening)[0] == b"in\n"
        assert len(pool.at(sshd.node)._slots.connections) == 1
    assert [type(event) for event in events] == [StageStarted, StageFinished] * 2


def test_k19_a_pool_in_a_second_loop_says_so(sshd_nodes: tuple[SshdNode, ...]) -> None:
    pool = pool_for(sshd_nodes[0])

    async def use() -> None:
        assert (await run_line(pool, sshd_nodes[0].node, "echo in"))[0] == b"in\n"

    async def everywhere() -> None:
        await run_all([sshd_nodes[0].node], "echo in", pool=pool)

    async def enter() -> None:
        async with pool:
            pass

    async def main() -> None:
        await use()
        for again in (use, everywhere, enter, pool.close, lambda: pool.drop(sshd_nodes[0].node)):
            with pytest.raises(RuntimeError, match="needs a Pool of its own") as caught:
                await asyncio.to_thread(asyncio.run, once(again))
            assert "this Pool belongs to the event loop that it was used in first, another one" in str(caught.value)
        await pool.close()

    async def once(work: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(5):
            await work()

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="used in first, one that has ended"):
        asyncio.run(once(use))


async def test_closing_is_bounded_when_the_node_is_frozen(start_sshd: StartSshd) -> None:
    sshd = start_sshd("frozen")
    async with asyncio.timeout(10):
        async with pool_for(sshd) as pool:
            channel = await pool.at(sshd.node).open("exec cat")
            sshd.end_sessions(signal.SIGSTOP)
            await channel.close()
    for pid in sshd.sessions():
        os.kill(pid, signal.SIGCONT)


async def test_b1_a_peer_that_falls_silent_is_lost_within_the_keepalive(start_sshd: StartSshd) -> None:
    sshd = start_sshd("mute")
    async with pool_for(sshd, limits=Limits(keepalive_s=0.2)) as pool:
        channel = await pool.at(sshd.node).open("exec cat")
        sshd.end_sessions(signal.SIGSTOP)
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionLost):
                await channel.read()
        await channel.close()
    for pid in sshd.sessions():
        os.kill(pid, signal.SIGCONT)
