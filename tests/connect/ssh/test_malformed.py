"""K22: a server whose packets make no sense, at any stage: what comes out is ours, and nothing is left behind."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.connect.ssh.handshake.watched import WatchedConnection
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import AuthError, ConnectError, ConnectionLost, DeployError, HostKeyError
from asyncdeploy.values.events import Event, StageFinished
from tests.support.beds.servers.mad_server import mad_server
from tests.support.beds.sshd_node import SshdNode

CASES = 100
QUICK = Limits(connect_timeout_s=1.5, connect_deadline_s=2, connects_per_endpoint=16, keepalive_s=0.5)
"""What has grown longer is waited for: a case must not take long."""


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the loop complains of: exceptions in callbacks, errors that nobody looked at."""
    found: list[str] = []
    loop = asyncio.get_event_loop_policy().get_event_loop()
    loop.set_exception_handler(lambda _, context: found.append(str(context)))
    yield found
    gc.collect()


async def ends(pool: Pool, node: Node) -> DeployError | bytes:
    """What became of one line on a node: its output, or the error."""
    try:
        channel = await pool.at(node).open("anything")
        try:
            out = b""
            async with asyncio.timeout(10):
                while data := await channel.read():
                    out += data
                await channel.wait()
            return out
        finally:
            await channel.close()
    except DeployError as error:
        return error


def judge(found: list[DeployError | bytes]) -> Counter[str]:
    """Each of them is ours, printable and short."""
    for each in found:
        if isinstance(each, DeployError):
            assert isinstance(each, ConnectError | ConnectionLost | AuthError | HostKeyError)
            assert all(line.isprintable() for line in str(each).splitlines())
            assert len(str(each)) < 2500
    return Counter(type(each).__name__ for each in found)


@pytest.mark.parametrize("on_the_wire", [True, False], ids=["bytes", "packets"])
async def test_k22_whatever_a_server_sends_is_an_error_of_ours(on_the_wire: bool, tmp_path: Path) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
    async with mad_server(1, on_the_wire=on_the_wire) as port:
        nodes = [Node("127.0.0.1", user="u", port=port, name=f"n{number}") for number in range(CASES)]
        # A name of its own for each: their host key is one, but may come changed.
        async with Pool(host_keys=HostKeys.accept_new(tmp_path / "known"), limits=QUICK) as pool:
            found = await asyncio.gather(*(ends(pool, node) for node in nodes))
    kinds = judge(found)
    assert kinds["ConnectError"] >= 10, kinds
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints


async def test_k22_behind_a_jump_host_the_jump_host_is_unharmed(
    start_sshd: Callable[..., SshdNode], tmp_path: Path
) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
    gate = start_sshd("gate")
    events: list[Event] = []
    options: dict[str, Any] = {"limits": QUICK, "observer": events.append}
    async with mad_server(500, on_the_wire=True) as port, mad_server(700, on_the_wire=False) as other:
        nodes = [
            Node("127.0.0.1", user="u", port=(port, other)[number % 2], name=f"n{number}", jump=gate.node)
            for number in range(CASES // 2)
        ]
        (tmp_path / "known").write_text(gate.known_hosts.read_text())
        async with Pool(host_keys=HostKeys.accept_new(tmp_path / "known"), **options) as pool:
            found = await asyncio.gather(*(ends(pool, node) for node in nodes))
    assert judge(found)["ConnectError"] >= 5
    reached = [event for event in events if isinstance(event, StageFinished) and event.node == gate.node.name]
    assert len(reached) == 1
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints


async def test_nothing_is_read_behind_the_packet_that_ended_a_connection() -> None:
    """What came in one read with it would be taken for packets: thousands of errors more, each for eight bytes."""
    login_too_early, kexinit = b"\0\0\0\x0c\x04\x32" + bytes(10), b"\x01\x14" + bytes(6)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        await reader.readuntil(b"\n")
        await reader.readexactly(1)  # it has read the version: what follows does not come with that
        writer.write(login_too_early + kexinit + bytes(1000))
        await reader.read()
        writer.close()

    loop, seen = asyncio.get_running_loop(), Seen()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        options = asyncssh.SSHClientConnectionOptions(known_hosts=None, username="u", client_keys=None)
        options.waiter = loop.create_future()
        await loop.create_connection(
            lambda: WatchedConnection(loop, options, seen), "127.0.0.1", server.sockets[0].getsockname()[1]
        )
        with pytest.raises(asyncssh.ProtocolError):
            await options.waiter
    assert seen.kexinit == b""
