"""A TCP connection that a node makes for us: each direction ends by itself, what waits is bounded."""

from __future__ import annotations

import asyncio
from collections import deque

import anyio
import asyncssh

from asyncdeploy.connect.ssh.handshake.watched import WatchedConnection
from asyncdeploy.connect.ssh.wire import TcpWire
from asyncdeploy.values.errors import ConnectError, ConnectionLost
from asyncdeploy.values.words import one_line

UNREAD_BYTES = 256 << 10
"""What waits for our reader; above it the node is held back."""
UNSENT_BYTES = 256 << 10
"""What waits for the node's window before ``drain`` waits."""
WINDOW = 2 << 20
"""What the node may send unasked: as a channel's, see there."""
PACKET = 64 << 10
OPEN_S = 30.0
"""How long the node may take: what drops our packets behind it is not waited for as long as its kernel would."""


class SshTunnel(asyncssh.SSHTCPSession[bytes]):
    """A Tunnel over one SSH channel."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._unread: deque[bytes] = deque()
        self._size = 0
        self._eof = False
        self._paused = False
        self._can_write = True
        self._said_all = False
        self._over = self._lost = False
        self._woken = anyio.Event()

    # -- what asyncssh tells us -----------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """The node has made the connection."""
        assert isinstance(chan, TcpWire)
        self._wire = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came: keep them, and hold the node back when too many are unread."""
        self._unread.append(data)
        self._size += len(data)
        if self._size > UNREAD_BYTES and not self._paused:
            self._paused = True
            self._wire.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The other end sends no more; our direction stays open."""
        self._eof = True
        self._close_if_done()
        self._wake()
        return True

    def pause_writing(self) -> None:
        """The node's window is full."""
        self._can_write = False

    def resume_writing(self) -> None:
        """The node took what waited."""
        self._can_write = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone: closed by the node, by us, or with its connection."""
        self._over = True
        self._lost = exc is not None or self._wire.cut_off
        self._wake()

    # -- the Tunnel -----------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the other end has said its last word."""
        return self._over or self._eof

    async def read(self) -> bytes:
        """Return what has come, b"" at its end.

        Raises:
            ConnectionLost: the connection to the node broke; what came before was given.
        """
        while not self._unread:
            if self._lost:
                raise ConnectionLost(self._node, "the connection broke while it carried a TCP connection")
            if self.ended:
                return b""
            await self._woken.wait()
        data = b"".join(self._unread)
        self._unread.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._wire.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait until the queue towards the node is short; what nobody takes any more is dropped."""
        if not self._wire.is_closing():
            self._wire.write(data)
        while not self._can_write and not self._over:
            await self._woken.wait()

    def write_eof(self) -> None:
        """Say that no more comes from us; the other direction stays open."""
        if not self._wire.is_closing():
            self._said_all = True
            self._wire.write_eof()
            self._close_if_done()

    async def wait_closed(self) -> None:
        """Wait until neither direction carries anything any more."""
        while not self._over:
            await self._woken.wait()

    def abort(self) -> None:
        """End it at once; may be called again."""
        self._wire.abort()

    def _close_if_done(self) -> None:
        """Close what has ended in both directions: not every sshd does that for us."""
        if self._eof and self._said_all:
            self._wire.close()

    def _wake(self) -> None:
        self._woken.set()
        self._woken = anyio.Event()


async def open_tunnel(ssh: WatchedConnection, node: str, host: str, port: int) -> SshTunnel:
    """Let a node make a TCP connection.

    Raises:
        ConnectError: it could not, or may not.
        ConnectionLost: the connection to the node broke.
    """
    if ssh.is_closed():
        raise ConnectionLost(node, "the connection is dead")
    wire = TcpWire(ssh, asyncio.get_running_loop(), None, "strict", WINDOW, PACKET)
    wire.set_write_buffer_limits(UNSENT_BYTES, UNSENT_BYTES // 4)
    session = SshTunnel(node)
    try:
        with anyio.fail_after(OPEN_S):
            await wire.connect(lambda: session, host, port, "", 0)
    except BaseException as error:
        wire.abandon()
        if isinstance(error, TimeoutError):
            what = f"port {port} of {host}: nothing answers there within {OPEN_S:g} s"
            raise ConnectError(node, what, reason="timeout") from error
        if isinstance(error, asyncssh.ChannelOpenError) and not ssh.is_closed():
            raise _refused(node, host, port, error) from error
        if isinstance(error, Exception):
            raise ConnectionLost(node, f"the connection broke: {one_line(str(error))}") from error
        raise
    return session


def _refused(node: str, host: str, port: int, error: asyncssh.ChannelOpenError) -> ConnectError:
    said = one_line(error.reason)
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        what = f"its sshd does not forward to port {port} of {host}: {said}"
        hint = "look at AllowTcpForwarding and PermitOpen in its sshd_config, and at the options of our key there"
        return ConnectError(node, what, hint, reason="config")
    if "refused" in said.lower():
        hint = "start what is to listen there, on localhost or all addresses; `ss -ltn` on the node shows who does"
        return ConnectError(node, f"nobody listens on port {port} of {host} there", hint, reason="refused")
    return ConnectError(node, f"port {port} of {host} is not reached from there: {said}", reason="unreachable")
