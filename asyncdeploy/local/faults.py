"""A TCP connection that can be cut, frozen and slowed: what LocalCluster's nodes stand behind.

A gate is the protocol of the real transport and the transport of the guarded protocol. While no fault is set, bytes
pass through it in the same call. Nothing here knows SSH.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import attrs

# Bytes kept in each direction of a slowed or frozen connection: about what the kernel's own socket buffers would hold.
_HELD_BYTES = 1 << 20


@attrs.define
class Faults:
    """What is wrong with a node's connections at present; shared by all of them."""

    delay_s: float = 0.0
    frozen: bool = False


@attrs.define(eq=False)
class _Lane:
    """One direction: passes bytes on in order, at once or when their time has come."""

    faults: Faults
    deliver: Callable[[bytes], None]
    hold: Callable[[bool], None]
    held: deque[tuple[float, bytes]] = attrs.field(factory=deque)
    size: int = 0
    timer: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        """Pass bytes on, or keep them until they are due."""
        if not self.held and not self.faults.frozen and self.faults.delay_s <= 0:
            self.deliver(data)
            return
        loop = asyncio.get_running_loop()
        self.held.append((loop.time() + self.faults.delay_s, data))
        self.size += len(data)
        if self.size > _HELD_BYTES:
            self.hold(True)
        self.turn()

    def turn(self) -> None:
        """Deliver what is due and come back for the rest; a frozen lane waits for its thaw."""
        self.stop()
        loop = asyncio.get_running_loop()
        while self.held and not self.faults.frozen and self.held[0][0] <= loop.time():
            _, data = self.held.popleft()
            self.size -= len(data)
            self.deliver(data)
        if self.size <= _HELD_BYTES // 2:
            self.hold(False)
        if self.held and not self.faults.frozen:
            self.timer = loop.call_at(self.held[0][0], self.turn)

    def stop(self) -> None:
        """Forget the appointment, not the bytes."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Gate(asyncio.Transport, asyncio.Protocol):
    """Stands between a real transport and the protocol that it guards.

    Args:
        guarded: the protocol of an accepted connection.
        faults: what is wrong with the connection; after a change call ``turn``.
        gates: where the gate is listed while its connection lives.
    """

    def __init__(self, guarded: asyncio.Protocol, faults: Faults, gates: set[Gate]) -> None:
        super().__init__()
        self._guarded = guarded
        self._gates = gates
        self._inward = _Lane(faults, guarded.data_received, self._hold_reading)
        self._outward = _Lane(faults, self._send, self._hold_writing)
        self._real: asyncio.Transport | None = None
        self._reading_held = False
        self._writing_held: set[str] = set()
        self._closing = False

    def turn(self) -> None:
        """Act on changed faults."""
        self._inward.turn()
        self._outward.turn()

    # -- the protocol of the real transport --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there: from here on the guarded protocol lives on us."""
        self._real = cast(asyncio.Transport, transport)
        self._gates.add(self)
        self._guarded.connection_made(self)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        self._inward.put(data)

    def eof_received(self) -> bool | None:
        """The client sends no more; SSH has no use for half a connection."""
        return self._guarded.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The real connection is gone, with whatever was still under way."""
        self._gates.discard(self)
        self._inward.stop()
        self._outward.stop()
        self._guarded.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket is full."""
        self._hold_writing(True, "socket")

    def resume_writing(self) -> None:
        """The socket has room."""
        self._hold_writing(False, "socket")

    # -- the transport of the guarded protocol -----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send to the client."""
        self._outward.put(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send several to the client."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Close; what is held by a fault is lost, as on any that breaks."""
        self._closing = True
        if self._real is not None:
            self._real.close()

    def abort(self) -> None:
        """Cut the connection now."""
        self._closing = True
        if self._real is not None:
            self._real.abort()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing or (self._real is not None and self._real.is_closing())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the real transport knows (peername, sockname, socket)."""
        return default if self._real is None else self._real.get_extra_info(name, default)

    def _send(self, data: bytes) -> None:
        if self._real is not None and not self._real.is_closing():
            self._real.write(data)

    def _hold_reading(self, hold: bool) -> None:
        if hold != self._reading_held and self._real is not None:
            self._reading_held = hold
            if hold:
                self._real.pause_reading()
            else:
                self._real.resume_reading()

    def _hold_writing(self, hold: bool, why: str = "lane") -> None:
        was_held = bool(self._writing_held)
        (self._writing_held.add if hold else self._writing_held.discard)(why)
        if hold and not was_held:
            self._guarded.pause_writing()
        elif was_held and not self._writing_held:
            self._guarded.resume_writing()
