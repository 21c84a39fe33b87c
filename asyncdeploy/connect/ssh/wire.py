"""asyncssh's channels, with what they lack: an abandoned one is closed, and what waits unread does not grow."""

from __future__ import annotations

import socket
import sys
from typing import Any

import asyncssh
from asyncssh.channel import SSHChannel

SHOWN_BYTES = 1 << 19
"""Must have arrived before the rate means something: a limited link lets a quarter of that through at once."""

_CONTENTS = frozenset({94, 95})
"""SSH_MSG_CHANNEL_DATA and SSH_MSG_CHANNEL_EXTENDED_DATA (RFC 4254)."""
_TCP_INFO = getattr(socket, "TCP_INFO", 0)
_ACKED_AT, _RATE_AT = 120, 160
"""Where tcpi_bytes_acked and tcpi_delivery_rate stand in Linux's struct tcp_info (since 4.9)."""


class _Wire(SSHChannel[bytes]):
    """A channel that closes itself if nobody waits any more when the node grants it.

    asyncssh forgets a channel whose opening was cancelled, and the node's session slot would stay taken.

    Attributes:
        abandoned: nobody waits for it.
        cut_off: it ended because its whole connection did.
    """

    abandoned = False
    cut_off = False

    def process_open_confirmation(self, send_chan: int, send_window: int, send_pktsize: int, packet: Any) -> None:
        super().process_open_confirmation(send_chan, send_window, send_pktsize, packet)
        if self.abandoned:
            self.abort()

    def abandon(self) -> None:
        """Close it now if it is open, else as soon as the node grants it."""
        self.abandoned = True
        self.abort()

    def _deliver_data(self, data: bytes, datatype: int | None) -> None:
        # asyncssh opens the node's window anew with the first bytes that it hands on, also for those that wait behind
        # them: what waits would grow by a window at each pause (169 of 200 MB with a slow reader).
        if self._recv_buf and self._session is not None:
            self._session.data_received(data, datatype)
        else:
            super()._deliver_data(data, datatype)

    def log_received_packet(self, pkttype: int, pktid: int | None, packet: Any, note: str = "") -> None:
        # What a node prints belongs into nobody's log, and a line for each packet costs more than its decryption.
        if pkttype not in _CONTENTS:
            super().log_received_packet(pkttype, pktid, packet, note)

    def process_connection_close(self, exc: Exception | None) -> None:
        # The whole connection ends, which asyncssh may tell a session just as it tells a channel's own end.
        self.cut_off = True
        super().process_connection_close(exc)


class TcpWire(_Wire, asyncssh.SSHTCPChannel[bytes]):
    """A TCP connection that a node makes for us: one on the way to another node, or to a port."""


class SessionWire(_Wire, asyncssh.SSHClientChannel[bytes]):
    """A session on a node."""

    def rate(self) -> float:
        """Return the bytes a second that TCP has seen the network carry; 0 where it does not tell, or not yet."""
        sock = self.get_extra_info("socket")
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RATE_AT + 8)
        except (AttributeError, OSError):
            return 0.0
        if len(info) < _RATE_AT + 8 or int.from_bytes(info[_ACKED_AT : _ACKED_AT + 8], sys.byteorder) < SHOWN_BYTES:
            return 0.0
        return float(int.from_bytes(info[_RATE_AT:], sys.byteorder))
