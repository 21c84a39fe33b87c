"""The way to a node's sshd, on which SSH begins: a TCP connection of our own, or one that its jump host makes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import asyncssh

from asyncdeploy.connect.ssh.connection import ClientConnection, SshConnection
from asyncdeploy.connect.ssh.dial import Names, NoSource, dial
from asyncdeploy.connect.ssh.endpoint import Place
from asyncdeploy.connect.ssh.handshake.reasons import connect_error, name_error, system_error
from asyncdeploy.connect.ssh.wire import TcpWire
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Route
from asyncdeploy.values.errors import ConnectionLost
from asyncdeploy.values.words import one_line

Begin = Callable[[], ClientConnection]
"""Makes the connection that speaks SSH over what was reached."""


async def reach(
    node: Node, place: Place, begin: Begin, names: Names, timeout_s: float, met: Callable[[str], Awaitable[None]]
) -> ClientConnection:
    """Make the TCP connection and begin SSH upon it; ``met`` is told the IP address, before anything is said there.

    Raises:
        ConnectError: the name is not known, or nobody answers there in time.
    """
    route = place.route
    try:
        with anyio.fail_after(timeout_s):
            sources = await names.look_up(place.bind, 0) if place.bind is not None else ()
            sock = await dial(await names.look_up(route.host, route.port, place.family), sources)
    except UnicodeError as error:
        raise name_error(node.name, route.host) from error
    except TimeoutError as error:
        where = f"{route.host} port {route.port}"
        raise connect_error(node.name, "timeout", f"{where} did not answer within {timeout_s:g} s") from error
    except NoSource as error:
        what = f"BindAddress {place.bind}: an address of this machine was expected that can reach {route.host}"
        raise connect_error(node.name, "config", f"{what}; {error.strerror}") from error
    except OSError as error:
        raise system_error(node.name, route.host, route.port, error) from error
    try:
        await met(str(sock.getpeername()[0]))
        _, ssh = await asyncio.get_running_loop().create_connection(begin, sock=sock)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):  # it is gone already
            raise system_error(node.name, route.host, route.port, error) from error
        raise
    return ssh


async def reach_through(
    jump: SshConnection, node: Node, route: Route, begin: Begin, timeout_s: float
) -> ClientConnection:
    """Let the jump host make the TCP connection, and begin SSH upon it.

    Raises:
        ConnectError: the jump host cannot reach the node, or not in time.
        ConnectionLost: the connection to the jump host broke.
    """
    where = f"jump host {jump.node} could not reach {route.host} port {route.port}"
    # asyncssh itself uses a connection as the session of a channel here; its types do not say so.
    made = cast("Callable[[], asyncssh.SSHTCPSession[bytes]]", begin)
    wire = TcpWire(jump.ssh, asyncio.get_running_loop(), None, "strict", 2 << 20, 64 << 10)
    try:
        with anyio.fail_after(timeout_s):
            ssh = await wire.connect(made, route.host, route.port, "", 0)
    except BaseException as error:
        wire.abandon()
        if isinstance(error, TimeoutError):
            raise connect_error(node.name, "timeout", f"{where} within {timeout_s:g} s") from error
        if isinstance(error, asyncssh.ChannelOpenError) and not jump.ssh.is_closed():
            raise connect_error(node.name, "jump", f"{where}: {one_line(error.reason)}") from error
        if isinstance(error, Exception):
            message = f"the connection to jump host {jump.node} broke: {one_line(str(error))}"
            raise ConnectionLost(node.name, message) from error
        raise
    return cast(ClientConnection, ssh)
