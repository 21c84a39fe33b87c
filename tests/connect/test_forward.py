"""A port of a node at a port of ours: whole in both directions, on loopback only, and a refusal in words."""

import asyncio
import hashlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.connect.forward import listen
from asyncdeploy.values.events import Event
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.waiting import eventually

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@attrs.define
class Served:
    """A server on a node, which is this machine."""

    port: int
    accepted: int = 0


@asynccontextmanager
async def serving(handle: Handler, port: int = 0) -> AsyncIterator[Served]:
    served = Served(port)
    tasks = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.accepted += 1
        tasks.add(task := asyncio.current_task())
        try:
            await handle(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", port) as server:
        served.port = server.sockets[0].getsockname()[1]
        yield served
        for task in list(tasks):
            task.cancel()


@asynccontextmanager
async def client(
    port: int, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def say_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()


async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await reader.read()


@pytest.fixture
def node(sshd_nodes: Sequence[SshdNode]) -> ad.Node:
    return sshd_nodes[0].node


async def test_it_carries_both_ways_on_both_loopback_addresses(pool: ad.Pool, node: ad.Node) -> None:
    async with serving(echo) as served, ad.forward(pool, node, served.port) as local:
        assert local.url == f"http://localhost:{local.local_port}"
        assert local.local_port not in (0, served.port)
        for host in ("127.0.0.1", "::1"):
            async with client(local.local_port, host) as (reader, writer):
                writer.write(b"there and back\n")
                assert await reader.readline() == b"there and back\n"
        assert (local.count, served.accepted) == (2, 2), "the connection that proved it served the first client"
        with pytest.raises(ConnectionRefusedError):  # another address of this machine
            await asyncio.open_connection("127.0.0.2", local.local_port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", local.local_port)


async def test_each_direction_ends_by_itself(pool: ad.Pool, node: ad.Node) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d\n" % len(await reader.read()))

    async with serving(count) as served, ad.forward(pool, node, served.port) as local:
        async with client(local.local_port) as (reader, writer):
            writer.write(b"x" * 3_000_000)
            writer.write_eof()
            assert await reader.read() == b"3000000\n"

    got = asyncio.get_running_loop().create_future()

    async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"my last word\n")
        writer.write_eof()
        got.set_result(await reader.read())

    async with serving(end_first) as served, ad.forward(pool, node, served.port) as local:
        async with client(local.local_port) as (reader, writer):
            assert await reader.read() == b"my last word\n"
            writer.write(b"y" * 1_000_000)
            writer.write_eof()
            assert await got == b"y" * 1_000_000


async def test_many_at_once_lose_nothing(pool: ad.Pool, node: ad.Node) -> None:
    async def carry(port: int, number: int) -> bool:
        data = hashlib.shake_128(b"%d" % number).digest(300_000)
        async with client(port) as (reader, writer):
            writer.write(data)
            writer.write_eof()
            return await reader.read() == data

    async with serving(echo) as served, ad.forward(pool, node, served.port) as local:
        assert await asyncio.gather(*(carry(local.local_port, number) for number in range(300))) == [True] * 300
        assert local.count == 300
        await eventually(lambda: not local._tasks, "every connection has ended by itself")


async def test_a_reader_that_waits_holds_the_node_back(pool: ad.Pool, node: ad.Node) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(1000):
            writer.write(b"z" * 100_000)
            await writer.drain()
            sent += 1

    async with serving(flood) as served, ad.forward(pool, node, served.port) as local:
        async with client(local.local_port) as (reader, _):
            await reader.readexactly(1)
            got, before = 1, -1
            while before != sent:  # until nothing more fits on the way
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 500
            while data := await reader.read(1 << 20):
                got += len(data)
            assert got == 100_000_000


async def test_where_nobody_listens_that_is_said(pool: ad.Pool, node: ad.Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ad.ConnectError) as raised:
        async with ad.forward(pool, node, port):
            raise AssertionError("entered")
    assert raised.value.message == f"nobody listens on port {port} of localhost there"
    assert (raised.value.node, raised.value.reason) == ("node-0", "refused")
    with pytest.raises(ad.ConnectError, match=r"is not reached from there: .*[Nn]ame|resol"):
        async with ad.forward(pool, node, port, host="no-such-host.invalid"):
            raise AssertionError("entered")


async def test_an_sshd_that_does_not_forward_is_named(start_sshd: Callable[..., SshdNode]) -> None:
    closed = start_sshd("closed", config={"AllowTcpForwarding": "no"})
    async with serving(echo) as served, pool_for(closed) as pool:
        with pytest.raises(ad.ConnectError, match="its sshd does not forward") as raised:
            async with ad.forward(pool, closed.node, served.port):
                raise AssertionError("entered")
    assert "AllowTcpForwarding" in raised.value.hint


async def test_the_port_here_is_ours_to_choose(pool: ad.Pool, node: ad.Node) -> None:
    async with serving(say_hello) as served:
        async with ad.forward(pool, node, served.port) as first:
            port = first.local_port
            with pytest.raises(ad.ConnectError, match=rf"port {port} of 127.0.0.1 on this machine: Address already"):
                async with ad.forward(pool, node, served.port, local_port=port):
                    raise AssertionError("entered")
        async with ad.forward(pool, node, served.port, local_port=port) as again, client(port) as (reader, _):
            assert again.local_port == port
            assert await reader.read() == b"hello\n"
    with pytest.raises(ValueError, match="forward port: 1 to 65535 was expected, got 0"):
        ad.forward(pool, node, 0)
    with pytest.raises(ValueError, match="forward local_port: 0 to 65535 was expected, got 65536"):
        ad.forward(pool, node, 1, local_port=65536)


def test_who_has_our_port_on_the_other_loopback_address_is_not_taken_for_us() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(ad.ConnectError, match=rf"port {port} of ::1"):
            listen(port)


async def test_through_a_jump_host(sshd_nodes: Sequence[SshdNode], pool: ad.Pool) -> None:
    behind = attrs.evolve(sshd_nodes[1].node, jump=sshd_nodes[0].node)
    async with serving(echo) as served, ad.forward(pool, behind, served.port) as local:
        async with client(local.local_port) as (reader, writer):
            writer.write(b"far\n")
            assert await reader.readline() == b"far\n"


async def test_what_is_cut_does_not_look_whole_and_the_next_one_is_carried(
    sshd_nodes: Sequence[SshdNode], node: ad.Node
) -> None:
    seen: list[Event] = []
    async with pool_for(sshd_nodes[0], observer=seen.append) as pool, serving(wait_for_end) as served:
        async with ad.forward(pool, node, served.port) as local:
            async with client(local.local_port) as (reader, _):
                assert await reader.readline() == b"hello\n"
                sshd_nodes[0].end_sessions(signal.SIGKILL)
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            await eventually(lambda: any("was not carried to its end" in text for text in notes(seen)))
            async with client(local.local_port) as (reader, _):
                assert await reader.readline() == b"hello\n"


async def test_one_that_stops_listening_is_said_once(sshd_nodes: Sequence[SshdNode], node: ad.Node) -> None:
    seen: list[Event] = []
    async with pool_for(sshd_nodes[0], observer=seen.append) as pool:
        async with serving(say_hello) as served:
            forward = ad.forward(pool, node, served.port)
            local = await forward.__aenter__()
        try:
            await eventually(
                lambda: local._first is not None and local._first.ended, "the one that proved it has ended"
            )
            for _ in range(3):
                async with client(local.local_port) as (reader, _):
                    with pytest.raises(ConnectionResetError):
                        await reader.readexactly(100)
            (text,) = [text for text in notes(seen) if "not carried" in text]
            assert text.endswith(f"nobody listens on port {served.port} of localhost there")
            async with serving(say_hello, served.port), client(local.local_port) as (reader, _):
                assert await reader.read() == b"hello\n"
        finally:
            await forward.__aexit__(None, None, None)


async def test_leaving_ends_what_is_carried(pool: ad.Pool, node: ad.Node) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        try:
            await reader.read()
        finally:
            ended.set()

    async with serving(wait) as served:
        async with ad.forward(pool, node, served.port) as local:
            reader, writer = await asyncio.open_connection("127.0.0.1", local.local_port)
            assert await reader.readline() == b"hello\n"
        await ended.wait()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_client_that_breaks_off_takes_nobody_along(pool: ad.Pool, node: ad.Node) -> None:
    ended = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"z" * 100_000)
                await writer.drain()
        except OSError:
            ended.set()

    async with serving(flood) as served, ad.forward(pool, node, served.port) as local:
        async with client(local.local_port) as (reader, writer):
            await reader.readexactly(1000)
            writer.transport.abort()
        await ended.wait()
        async with client(local.local_port) as (reader, writer):
            assert await reader.readexactly(1000) == b"z" * 1000
