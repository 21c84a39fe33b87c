"""A connection with its slots, and a channel in somebody's hands that takes one of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from asyncdeploy.remote.transport import Channel, Connection, Exit


@attrs.define(eq=False)
class PooledConnection:
    """A connection, how many of its slots are taken, how many we may take, and how many sshd has been seen to give."""

    inner: Connection
    limit: int
    taken: int = 0
    most: float = float("inf")


class Lease:
    """A Channel that frees its slot when it is closed; the same one each time it is lent.

    Args:
        channel: the channel itself.
        connection: whose slot it takes.
        release: is told when the slot is free.

    Attributes:
        kind: what it was given back as, while it is idle.
    """

    __slots__ = ("_channel", "_is_held", "_release", "connection", "kind", "notes", "reused")

    def __init__(
        self, channel: Channel, connection: PooledConnection, release: Callable[[PooledConnection], None]
    ) -> None:
        self.connection = connection
        self.kind = ""
        self.reused = channel.reused
        self.notes = channel.notes
        self._channel = channel
        self._release = release
        self._is_held = True

    @property
    def ended(self) -> bool:
        """True once the line can say nothing new."""
        return self._channel.ended

    def lend(self) -> None:
        """It is somebody's again."""
        # The same object as before: a worker keeps its channel between two calls, and gives that very object back.
        self.reused = self._is_held = True

    def lay_down(self, kind: str) -> None:
        """It is nobody's: whoever still holds it can no longer close it."""
        assert self._is_held, "a channel is given back once"
        # A holder that was cancelled may come to its `finally` late, when the channel is another's already.
        self._is_held, self.kind = False, kind

    async def close_idle(self) -> None:
        """Close it while it is nobody's; its slot passes to who asked for that."""
        # Without a release: whoever was granted this slot is the one who waits here, and no other may get it meanwhile.
        await self._channel.close()

    def send(self, data: bytes) -> None:
        """Queue bytes for the line's stdin."""
        self._channel.send(data)

    def drain(self) -> Coroutine[Any, Any, None]:
        """Wait until the queue towards the node is short."""
        # The channel's own coroutine, here and below: one of ours around it would be paid for at every chunk.
        return self._channel.drain()

    def send_eof(self) -> None:
        """End the line's stdin."""
        self._channel.send_eof()

    def rate(self) -> float:
        """Return the bytes a second that the network has been seen to carry, 0 if unknown."""
        return self._channel.rate()

    def read(self, limit: int = 262144) -> Coroutine[Any, Any, bytes]:
        """Return up to ``limit`` bytes of stdout."""
        return self._channel.read(limit)

    def read_stderr(self, limit: int = 262144) -> Coroutine[Any, Any, bytes]:
        """Return up to ``limit`` bytes of stderr."""
        return self._channel.read_stderr(limit)

    def quiet_s(self) -> float:
        """Return for how long nothing has come."""
        return self._channel.quiet_s()

    def break_off(self, why: str) -> None:
        """Give the line up as lost."""
        self._channel.break_off(why)

    def wait(self) -> Coroutine[Any, Any, Exit]:
        """Return how the line ended."""
        return self._channel.wait()

    async def close(self) -> None:
        """Close the channel, then free its slot; may be called again."""
        if self._is_held:
            self._is_held = False  # before we wait: a second close meanwhile must not free the slot a second time
            try:
                # First gone on the node: a slot given away before that is refused by sshd, which counts sessions.
                await self._channel.close()
            finally:
                self._release(self.connection)  # whatever cancelled us: a slot that is lost once is lost for good
