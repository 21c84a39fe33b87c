"""A port of a node, reached at a port of this machine over the pool's connection: forward, Forward."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from types import TracebackType
from typing import Self

from asyncdeploy.connect.pool import Pool
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Tunnel
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import ConnectError, DeployError
from asyncdeploy.values.events import Noted

AT_ONCE = 256
"""Connections carried at a time, for a browser opens six and a load test some hundred; more of them wait their turn."""
READ_BYTES = 64 << 10
TRIES = 20
"""For a free port that both of this machine's loopback addresses have."""
BACKLOG = 128
NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Forward:
    """A port of a node at a port of this machine: ``async with forward(pool, node, 6006) as local: print(local.url)``.

    Attributes:
        node: whose port it is.
        port: its number there.
        host: where the node connects to, as it knows it: itself.
        local_port: the port here, on the loopback addresses only; chosen when the block is entered.
        count: how many connections were carried so far.
    """

    def __init__(self, pool: Pool, node: Node, port: int, *, host: str, local_port: int) -> None:
        self.node = node
        self.port = port
        self.host = host
        self.local_port = local_port
        self.count = 0
        self._remote = pool.at(node)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._first: Tunnel | None = None
        self._noted = ""

    def __repr__(self) -> str:
        return f"Forward({self.node.name!r}, {self.port}, local_port={self.local_port})"

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://localhost:{self.local_port}"

    async def __aenter__(self) -> Self:
        # Who listens there may take one connection and no more (nc): the one that proves it serves the first client.
        self._first = await self._open()
        try:
            for sock in listen(self.local_port):
                # In two steps: asyncio forgets a server whose start was cancelled, and it would listen on.
                self._servers.append(await asyncio.start_server(self._accept, sock=sock, start_serving=False))
            for server in self._servers:
                await server.start_serving()
        except BaseException:
            await self._end()
            raise
        self.local_port = self._servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        if self._first is not None:
            self._first.abort()
        for task in self._tasks:
            task.cancel()
        if tasks := set(self._tasks):
            await finish(asyncio.wait(tasks), BACK_S)

    async def _open(self) -> Tunnel:
        connection = await self._remote.connection()
        return await connection.tunnel(self.host, self.port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name=f"forward {self.port}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also of one that was cancelled before it began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._turns:
                tunnel, self._first = self._first, None
                if tunnel is None or tunnel.ended:
                    tunnel = await self._open()
                self.count += 1
                await _carry(reader, writer, tunnel)
        except BaseException as error:
            _reset(writer)  # and no end: what was cut must not look whole
            if not isinstance(error, DeployError | OSError):
                raise
            if isinstance(error, DeployError):  # else it was our client that broke off
                self._note(error.message)
        else:
            self._noted = ""

    def _note(self, why: str) -> None:
        if why != self._noted:  # a browser tries again and again
            self._noted = why
            text = f"a connection to port {self.port} was not carried to its end: {why}"
            self._remote.emit(Noted(node=self.node.name, text=text))


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnel: Tunnel) -> None:
    """Carry both directions until each has ended, or one breaks.

    Raises:
        ConnectionLost: the connection to the node broke.
        OSError: our client broke off.
    """
    loop = asyncio.get_running_loop()
    there = loop.create_task(_send(reader, tunnel), name="forward: to the node")
    back = loop.create_task(_receive(tunnel, writer), name="forward: from the node")
    try:
        # Back ends with the whole; there alone may end first, or with an error.
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        if not back.done():
            there.result()
        await back
    finally:
        tunnel.abort()
        there.cancel()
        back.cancel()
        await finish(asyncio.wait((there, back)), BACK_S)
        if there.done() and not there.cancelled():
            there.exception()  # looked at, or the loop would complain


async def _send(reader: asyncio.StreamReader, tunnel: Tunnel) -> None:
    while data := await reader.read(READ_BYTES):
        await tunnel.write(data)
    tunnel.write_eof()


async def _receive(tunnel: Tunnel, writer: asyncio.StreamWriter) -> None:
    while data := await tunnel.read():
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await tunnel.wait_closed()


def listen(port: int) -> list[socket.socket]:
    """Return sockets that listen on this machine's loopback addresses, both of them where it has both, at one port.

    Both: a browser asks "localhost" for ::1 first, and another user might listen at that port there.

    Args:
        port: its number, 0 for a free one.

    Raises:
        ConnectError: the port is taken, or not ours to take.
    """
    for _ in range(1 if port else TRIES):
        first = _listen_at("127.0.0.1", port)
        try:
            return [first, _listen_at("::1", first.getsockname()[1])]
        except ConnectError as error:
            taken = error
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_IPV6:
                return [first]
            first.close()
    raise taken


def _listen_at(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        what = f"port {port} of {address} on this machine: {os.strerror(error.errno or 0)}"
        hint = "choose another local_port; without one a free port is found"
        raise ConnectError("", what, hint, reason="local") from error


@checked
def forward(pool: Pool, node: Node, port: int, *, host: str = "localhost", local_port: int = 0) -> Forward:
    """Return what carries connections from a port of this machine to a port of a node, in an ``async with`` block.

    They go over the pool's connection to the node, through its jump hosts; one that broke is made again for the next
    of them. It listens on this machine's loopback addresses only, where every user of this machine may connect.

    Args:
        pool: the connections.
        node: the node.
        port: the TCP port there, 1 to 65535.
        host: where the node connects to, as it knows it; "localhost" is itself.
        local_port: the port here; 0 is a free one, and ``local_port`` of what the block gives is its number.

    Raises:
        ValueError: a port out of range.

    Entering the block raises:
        ConnectError: nobody listens there, its sshd does not forward, the port here is taken, the node is not reached.

    A connection that comes later and cannot be carried is reset, and an event says why. Leaving the block, and a
    cancellation, ends all of them.
    """
    for name, number, least in (("port", port, 1), ("local_port", local_port, 0)):
        if not least <= number <= 65535:
            raise ValueError(f"forward {name}: {least} to 65535 was expected, got {number}")
    return Forward(pool, node, port, host=host, local_port=local_port)
