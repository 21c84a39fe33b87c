"""asyncssh's connection, which notes what it sees of a handshake, and lets no exception out of a packet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import asyncssh
from asyncssh.packet import SSHPacket

from asyncdeploy.connect.ssh.handshake.greeting import VERSION_S, NotSshError
from asyncdeploy.connect.ssh.handshake.seen import Seen

_DISCONNECT, _KEXINIT, _REFUSED = 1, 20, 51
"""SSH_MSG_DISCONNECT, SSH_MSG_KEXINIT, SSH_MSG_USERAUTH_FAILURE (RFC 4253, 4252)."""


class WatchedConnection(asyncssh.SSHClientConnection):
    """A client's connection.

    Args:
        loop: the event loop.
        options: its options; their ``waiter`` learns how the handshake ended.
        seen: where it is noted.

    Attributes:
        farewell: what lines over it are told when we close it, "" while we do not.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHClientConnectionOptions, seen: Seen
    ) -> None:
        super().__init__(loop, options, wait="auth")
        self.seen = seen
        self.farewell = ""
        self._impatience: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take what came. Whatever is wrong with it ends this connection, never the one that carries it."""
        greeting = self.seen.greeting
        if not greeting.version:
            if greeting.take(data):
                self._stop_waiting()
            elif self._impatience is None:
                self._impatience = self._loop.call_later(VERSION_S, self._lose_patience)
        try:
            super().data_received(data, datatype)
        except Exception:  # noqa: BLE001 - asyncssh catches its own, but for those of its goodbye
            self.internal_error()

    def connection_lost(self, exc: Exception | None = None) -> None:
        """The connection is gone."""
        self._stop_waiting()
        if self.seen.greeting.is_foreign and not self.seen.greeting.refusal:
            exc = NotSshError()
        super().connection_lost(exc)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Note what a packet says, then let asyncssh handle it."""
        if pkttype == _KEXINIT:
            self.seen.kexinit = packet.get_full_payload()
        elif pkttype == _REFUSED:
            self.seen.note_refusal(packet.get_full_payload())
        elif pkttype == _DISCONNECT:
            self.seen.note_goodbye(packet.get_full_payload())
        return super().process_packet(pkttype, pktid, packet)

    async def send_userauth_request(self, method: bytes, *args: bytes, key: Any = None, trivial: bool = True) -> None:
        """Try a login method, and note it; an agent that does not sign is no reason to give up (asyncssh goes on)."""
        tried = self.seen.begin(method, args, signed=key is not None)
        try:
            await super().send_userauth_request(method, *args, key=key, trivial=trivial)
        except Exception as error:
            tried.signing = False
            tried.unsigned = str(error) or type(error).__name__
            raise ValueError(tried.unsigned) from error
        tried.signing = False

    @property
    def our_kexinit(self) -> bytes:
        """Our own KEXINIT packet, b"" before it was sent."""
        return self._client_kexinit

    def _lose_patience(self) -> None:
        self.connection_lost(NotSshError())

    def _stop_waiting(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
