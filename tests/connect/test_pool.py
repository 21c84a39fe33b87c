"""The pool over real sshd: limits, queues, retries, jump hosts, broken lines."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Exit
from asyncdeploy.values.errors import AuthError, Cancelled, ConnectError, ConnectionLost, HostKeyError
from asyncdeploy.values.events import Event, Noted, StageFailed, StageFinished, StageStarted
from tests.support.beds.pools import answer, pool_for, run_line
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., str]:
    """`make_key(name, passphrase="")`: the path of a new private key that no node knows."""
    need("ssh-keygen")

    def make(name: str, passphrase: str = "") -> str:
        path = tmp_path / name
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(words, check=True)
        return str(path)

    return make


@pytest.fixture
def key_path(make_key: Callable[..., str]) -> str:
    """A private key that no node knows."""
    return make_key("stranger")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


def renamed(sshd: SshdNode, count: int) -> list[Node]:
    """Many nodes behind one sshd."""
    return [attrs.evolve(sshd.node, name=f"copy-{number}") for number in range(count)]


# -- lines ---------------------------------------------------------------------------------------------------------


async def test_a_line_gives_its_bytes_and_its_exit(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("cat; echo wrong >&2; exit 3")
        channel.send(b"in\xff\x00")
        channel.send_eof()
        assert await channel.read() == b"in\xff\x00"
        assert await channel.read() == b""
        assert await channel.read_stderr() == b"wrong\n"
        assert await channel.wait() == Exit(3)
        await channel.close()
        await channel.close()
        assert await run_line(pool, sshd_nodes[0].node, "kill -KILL $$") == (b"", Exit(None, "KILL"))


async def test_b5_a_killed_session_is_a_lost_connection_never_an_exit(sshd_nodes: tuple[SshdNode, ...]) -> None:
    sshd = sshd_nodes[0]
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        channel = await remote.open("echo there; exec sleep 60")
        assert await channel.read() == b"there\n"
        remote.memory["python"] = True
        sshd.end_sessions()
        with pytest.raises(ConnectionLost):
            await channel.wait()
        with pytest.raises(ConnectionLost):
            await channel.read()
        with pytest.raises(ConnectionLost):
            await channel.drain()
        await channel.close()
        assert (await run_line(pool, sshd.node, "echo again"))[0] == b"again\n"
        assert remote.memory == {}
        sshd.sweep()


async def test_c6_a_slow_reader_holds_the_node_back(sshd_nodes: tuple[SshdNode, ...]) -> None:
    total = 30 << 20
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open(f"head -c {total} /dev/zero; echo $? >&2")
        inner = channel._channel
        await eventually(lambda: inner._paused, "reading is paused")
        assert len(inner._stdout) < 2 << 20
        size = most = 0
        while data := await channel.read():
            size += len(data)
            if size % (1 << 20) < len(data):  # the node gets the time to send all that it may
                await anyio.sleep(0.01)
            most = max(most, len(inner._stdout) + sum(len(waiting) for waiting, _ in inner._wire._recv_buf))
        assert size == total
        assert most < 4 << 20
        assert await channel.read_stderr() == b"0\n"
        await channel.close()


async def test_c5_unread_stderr_keeps_its_end_and_does_not_stop_stdout(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("head -c 8000000 /dev/zero >&2; echo END >&2; echo done")
        assert await channel.read() == b"done\n"
        await channel.wait()
        assert await channel.read() == b""
        kept = b""
        while data := await channel.read_stderr():
            kept += data
        assert kept.endswith(b"END\n")
        assert kept.startswith(b"[")
        assert len(kept) < (1 << 20) + 100
        await channel.close()


async def test_much_input_waits_in_drain(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("read go; wc -c")
        channel.send(b"go\n")
        for _ in range(16):
            channel.send(bytes(1 << 20))
            await channel.drain()
            assert channel._channel._wire.get_write_buffer_size() <= 2 << 20
        channel.send_eof()
        assert (await channel.read()).strip() == b"%d" % (16 << 20)
        await channel.close()


async def test_what_a_line_that_ended_does_not_take_is_dropped(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("exit 0")
        assert await channel.wait() == Exit(0)
        await eventually(lambda: channel._channel._over)
        channel.send(b"late")
        await channel.drain()
        channel.send_eof()
        await channel.close()


# -- slots ---------------------------------------------------------------------------------------------------------


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


# -- connecting ------------------------------------------------------------------------------------------------------


async def test_a1_sixty_nodes_behind_one_sshd_with_its_usual_limits(start_sshd: StartSshd) -> None:
    sshd = start_sshd("crowd")
    async with pool_for(sshd) as pool:
        done = await asyncio.gather(*(run_line(pool, node, "echo in") for node in renamed(sshd, 60)))
        assert done == [(b"in\n", Exit(0))] * 60


async def test_a1_dropped_handshakes_are_tried_again(start_sshd: StartSshd) -> None:
    sshd = start_sshd("strict", config={"MaxStartups": "2:100:2"})
    events: list[Event] = []
    async with pool_for(sshd, observer=events.append, limits=Limits(connects_per_endpoint=12)) as pool:
        done = await asyncio.gather(*(run_line(pool, node, "echo in") for node in renamed(sshd, 12)))
        assert done == [(b"in\n", Exit(0))] * 12
    assert any(isinstance(event, Noted) and "tried again" in event.text for event in events)


async def test_a5_a_refused_port_is_an_error_at_once(unused_tcp_port: int, key_path: str) -> None:
    events: list[Event] = []
    node = Node("127.0.0.1", user="root", port=unused_tcp_port, name="nobody", key_path=key_path)
    async with Pool(host_keys=HostKeys.pinned({}), observer=events.append) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(node).open("true")
    assert (caught.value.reason, caught.value.attempts, caught.value.node) == ("refused", 1, "nobody")
    assert [type(event) for event in events] == [StageStarted, StageFailed]


async def test_a7_a_server_without_a_banner_is_a_timeout(silent_port: int, key_path: str) -> None:
    node = Node("127.0.0.1", user="root", port=silent_port, name="silent", key_path=key_path)
    limits = Limits(connect_timeout_s=0.2, connect_deadline_s=0.6)
    async with Pool(host_keys=HostKeys.pinned({}), limits=limits) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(node).open("true")
    assert caught.value.reason == "timeout"
    assert "does not speak SSH" in caught.value.message


async def test_a13_a_refused_key_is_told_with_user_and_key(sshd_nodes: tuple[SshdNode, ...], key_path: str) -> None:
    sshd = sshd_nodes[0]
    node = attrs.evolve(sshd.node, key_path=key_path)
    events: list[Event] = []
    async with pool_for(sshd, observer=events.append) as pool:
        with pytest.raises(AuthError) as caught:
            await pool.at(node).open("true")
    assert f"{node.user!r}" in caught.value.message
    assert key_path in caught.value.message
    assert not any(isinstance(event, Noted) for event in events), "a refused key is not tried again"


async def test_a16_an_encrypted_key_is_refused_before_any_connect(
    make_key: Callable[..., str], unused_tcp_port: int
) -> None:
    path = make_key("locked", passphrase="secret")
    node = Node("127.0.0.1", user="root", port=unused_tcp_port, key_path=path)
    async with Pool(host_keys=HostKeys.pinned({})) as pool:
        with pytest.raises(AuthError, match="encrypted"):
            await pool.at(node).open("true")


async def test_a18_an_unknown_name_is_a_dns_error(key_path: str) -> None:
    node = Node("no-such-host.invalid", user="root", port=22, key_path=key_path)
    async with Pool(host_keys=HostKeys.pinned({})) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(node).open("true")
    assert caught.value.reason == "dns"


async def test_many_who_wait_for_one_connect_share_its_failure(unused_tcp_port: int, key_path: str) -> None:
    node = Node("127.0.0.1", user="root", port=unused_tcp_port, key_path=key_path)
    events: list[Event] = []
    async with Pool(host_keys=HostKeys.pinned({}), observer=events.append) as pool:
        errors = await asyncio.gather(*(pool.at(node).open("true") for _ in range(20)), return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectError] * 20
    assert len({id(error) for error in errors}) == 20
    assert sum(isinstance(event, StageStarted) for event in events) == 1


async def test_a20_nodes_share_one_connection_to_their_jump_host(start_sshd: StartSshd) -> None:
    gate, target = start_sshd("gate"), start_sshd("target")
    inner = [attrs.evolve(node, jump=gate.node) for node in renamed(target, 6)]
    events: list[Event] = []
    async with pool_for(gate, observer=events.append) as pool:
        done = await asyncio.gather(*(run_line(pool, node, "echo in") for node in inner))
        assert done == [(b"in\n", Exit(0))] * 6
    connected = [event.node for event in events if isinstance(event, StageFinished)]
    assert sorted(connected) == sorted([gate.node.name, *(node.name for node in inner)])


async def test_a20_a_dead_jump_host_is_named(sshd_nodes: tuple[SshdNode, ...], unused_tcp_port: int) -> None:
    sshd = sshd_nodes[0]
    hop = attrs.evolve(sshd.node, port=unused_tcp_port, name="dead-gate")
    async with pool_for(sshd) as pool:
        with pytest.raises(ConnectError, match="jump host dead-gate") as caught:
            await pool.at(attrs.evolve(sshd.node, jump=hop)).open("true")
    assert (caught.value.node, caught.value.reason) == (sshd.node.name, "jump")


async def test_a20_a_jump_host_without_forwarding_is_named(start_sshd: StartSshd) -> None:
    gate, target = start_sshd("gate", config={"AllowTcpForwarding": "no"}), start_sshd("target")
    async with pool_for(gate) as pool:
        with pytest.raises(ConnectError, match="jump host gate could not reach") as caught:
            await pool.at(attrs.evolve(target.node, jump=gate.node)).open("true")
    assert (caught.value.node, caught.value.reason) == ("target", "jump")


async def test_a20_a_target_that_is_down_is_told_through_the_jump_host(
    start_sshd: StartSshd, unused_tcp_port: int
) -> None:
    gate = start_sshd("gate")
    node = attrs.evolve(gate.node, port=unused_tcp_port, name="down", jump=gate.node)
    async with pool_for(gate) as pool:
        with pytest.raises(ConnectError, match="jump host gate could not reach") as caught:
            await pool.at(node).open("true")
    assert caught.value.node == "down"


async def test_a_jump_host_with_an_unknown_key_is_named(start_sshd: StartSshd) -> None:
    gate, target = start_sshd("gate"), start_sshd("target")
    async with Pool(host_keys=HostKeys.pinned({"target": "SHA256:" + "a" * 43})) as pool:
        with pytest.raises(HostKeyError, match="jump host gate") as caught:
            await pool.at(attrs.evolve(target.node, jump=gate.node)).open("true")
    assert (caught.value.node, caught.value.reason) == ("target", "unknown")


async def test_a_lost_jump_host_is_connected_again(start_sshd: StartSshd) -> None:
    gate, target = start_sshd("gate"), start_sshd("target")
    node = attrs.evolve(target.node, jump=gate.node)
    async with pool_for(gate) as pool:
        channel = await pool.at(node).open("exec cat")
        gate.end_sessions()
        with pytest.raises(ConnectionLost):
            await channel.read()
        await channel.close()
        assert await run_line(pool, node, "exit 4") == (b"", Exit(4))


# -- cancellation and closing --------------------------------------------------------------------------------------


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
    with pytest.raises(ConnectionLost):
        await channel.read()
    await channel.close()


async def test_closing_is_bounded_when_the_node_is_frozen(start_sshd: StartSshd) -> None:
    sshd = start_sshd("frozen")
    async with asyncio.timeout(10):
        async with pool_for(sshd) as pool:
            channel = await pool.at(sshd.node).open("exec cat")
            sshd.end_sessions(signal.SIGSTOP)
            await channel.close()
    for pid in sshd.sessions():
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("values", [{"connects_at_once": 0}, {"keepalive_s": -1}, {"connects_per_endpoint": 2.5}])
def test_limits_refuse_what_is_no_limit(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Limits(**values)


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
