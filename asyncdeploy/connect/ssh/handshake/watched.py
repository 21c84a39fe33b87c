"""asyncssh's connection, which notes what it sees of a handshake, and lets no exception out of a packet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
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
        self._is_further = False  # what asyncssh is given is not the first piece of what came

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take what came. Whatever is wrong with it ends this connection, never the one that carries it."""
        greeting = self.seen.greeting
        if not greeting.version:
            if greeting.take(data):
                self._stop_waiting()
            elif self._impatience is None:
                self._impatience = self._loop.call_later(VERSION_S, self._lose_patience)
        try:
            for piece in self._pieces(data):
                super().data_received(piece, datatype)
                self._is_further = True
                if self._transport is None:  # it has ended this connection, and stops reading in the middle
                    break
        except Exception:  # noqa: BLE001 - asyncssh catches its own, but for those of its goodbye
            self.internal_error()
        self._is_further = False

    def _reset_keepalive_timer(self) -> None:
        if not self._is_further:  # once is enough for all that came in one read
            super()._reset_keepalive_timer()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut what came where asyncssh will: it copies all that is left behind each packet, in all a flood eight times.

        Where to cut is known by what it waits for; a wrong cut costs a copy and nothing else.
        """
        at = 0
        while len(data) - at > self._recv_blocksize:
            wanted = self._recv_blocksize
            if self._packet:  # its beginning was read, and says how long it is
                wanted = 4 + self._pktlen + self._recv_macsize - wanted
            wanted -= len(self._inpbuf)
            if wanted <= 0:  # it is busy with a packet, and takes the others later
                break
            yield data[at : at + wanted]
            at += wanted
        if at < len(data):
            yield data[at:]

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
