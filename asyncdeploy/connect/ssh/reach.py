"""The way to a node's sshd, on which SSH begins: a TCP connection of our own, or one that its jump host makes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import anyio
import asyncssh

from asyncdeploy.connect.ssh.connection import ClientConnection, SshConnection
from asyncdeploy.connect.ssh.dial import Names, dial
from asyncdeploy.connect.ssh.errors import connect_error, dial_error
from asyncdeploy.connect.ssh.wire import TcpWire
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Route
from asyncdeploy.values.errors import ConnectionLost

Options = asyncssh.SSHClientConnectionOptions


async def reach(node: Node, route: Route, options: Options, names: Names, timeout_s: float) -> ClientConnection:
    """Make the TCP connection and begin SSH upon it.

    Raises:
        ConnectError: the name is not known, or nobody answers there in time.
    """
    where, loop = f"{route.host} port {route.port}", asyncio.get_running_loop()
    try:
        with anyio.fail_after(timeout_s):
            sock = await dial(await names.look_up(route))
    except socket.gaierror as error:
        raise connect_error(node, "dns", f"the name {route.host} is not known: {error.strerror}") from error
    except TimeoutError as error:
        raise connect_error(node, "timeout", f"{where} did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise dial_error(node, where, error) from error
    try:
        _, ssh = await loop.create_connection(lambda: ClientConnection(loop, options, wait="auth"), sock=sock)
    except BaseException:
        sock.close()
        raise
    return ssh


async def reach_through(
    jump: SshConnection, node: Node, route: Route, options: Options, timeout_s: float
) -> ClientConnection:
    """Let the jump host make the TCP connection, and begin SSH upon it.

    Raises:
        ConnectError: the jump host cannot reach the node, or not in time.
        ConnectionLost: the connection to the jump host broke.
    """
    where = f"jump host {jump.node} could not reach {route.host} port {route.port}"
    loop = asyncio.get_running_loop()
    # asyncssh itself uses a connection as the session of a channel here; its types do not say so.
    made = cast("Callable[[], asyncssh.SSHTCPSession[bytes]]", lambda: ClientConnection(loop, options, wait="auth"))
    wire = TcpWire(jump.ssh, loop, None, "strict", 2 << 20, 64 << 10)
    try:
        with anyio.fail_after(timeout_s):
            ssh = await wire.connect(made, route.host, route.port, "", 0)
    except BaseException as error:
        wire.abandon()
        if isinstance(error, TimeoutError):
            raise connect_error(node, "timeout", f"{where} within {timeout_s:g} s") from error
        if isinstance(error, asyncssh.ChannelOpenError):
            raise connect_error(node, "jump", f"{where}: {error.reason}") from error
        if isinstance(error, asyncssh.Error | OSError):
            raise ConnectionLost(node.name, f"the connection to jump host {jump.node} broke: {error}") from error
        raise
    return cast(ClientConnection, ssh)
