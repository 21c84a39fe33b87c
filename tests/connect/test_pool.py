"""Connecting over real sshd: crowds, retries, refusals by name, jump hosts."""

import asyncio
from collections.abc import Callable

import attrs
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Exit
from asyncdeploy.values.errors import AuthError, ConnectError, ConnectionLost, HostKeyError
from asyncdeploy.values.events import Event, Noted, StageFailed, StageFinished, StageStarted
from tests.support.beds.pools import pool_for, run_line
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]


def renamed(sshd: SshdNode, count: int) -> list[Node]:
    """Many nodes behind one sshd."""
    return [attrs.evolve(sshd.node, name=f"copy-{number}") for number in range(count)]


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
