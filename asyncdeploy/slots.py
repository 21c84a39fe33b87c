"""Who gets which slot of a node's connections: decisions without I/O and without waiting.

The pool does what is decided here. Since nothing is awaited between looking and deciding, there is no race to lose.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import attrs

from asyncdeploy.transport import Channel, Connection


@attrs.define(eq=False)
class Line:
    """A connection, how many of its slots are taken, and how many we believe it to have."""

    connection: Connection
    limit: int
    taken: int = 0


@attrs.define(eq=False)
class Lease:
    """A channel and the line whose slot it takes; ``kind`` is set while it is idle."""

    line: Line
    channel: Channel
    kind: str = ""


@attrs.frozen(eq=False)
class Reuse:
    """Take this idle channel."""

    lease: Lease


@attrs.frozen(eq=False)
class Open:
    """Open a channel on this line: a slot is kept for it; an idle channel that holds it is closed first."""

    line: Line
    instead: Lease | None = None


@attrs.frozen(eq=False)
class Use:
    """Take this connection as it is, without a slot: something is to be reached through it."""

    line: Line


@attrs.frozen(eq=False)
class Connect:
    """Make a connection: nobody else of this node is doing it."""


Grant = Reuse | Open | Use | Connect


@attrs.define(eq=False)
class Waiter:
    """Somebody in the queue; ``wants_slot`` is False where the connection itself is wanted."""

    kind: str | None
    wants_slot: bool
    grant: asyncio.Future[Grant]


@attrs.define(eq=False)
class Slots:
    """One node's connections, channels and queue."""

    per_line: int
    at_most_lines: int
    lines: list[Line] = attrs.field(factory=list)
    idle: list[Lease] = attrs.field(factory=list)
    queue: deque[Waiter] = attrs.field(factory=deque)
    connecting: bool = False

    def join(self, kind: str | None, *, wants_slot: bool = True) -> Waiter:
        """Stand in the queue; the grant may be there at once."""
        waiter = Waiter(kind, wants_slot, asyncio.get_running_loop().create_future())
        self.queue.append(waiter)
        self.turn()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Give up waiting; what was granted meanwhile goes to the next one."""
        if waiter in self.queue:
            self.queue.remove(waiter)
        elif waiter.grant.done() and not waiter.grant.cancelled() and waiter.grant.exception() is None:
            self._take_back(waiter.grant.result())
        self.turn()

    def turn(self) -> None:
        """Serve the queue in its order, as far as what is free goes."""
        for waiter in list(self.queue):
            grant = self._choose(waiter)
            if grant is not None:
                self.queue.remove(waiter)
                waiter.grant.set_result(grant)

    def add(self, connection: Connection) -> Line:
        """A connection was made."""
        line = Line(connection, self.per_line)
        self.lines.append(line)
        self.connecting = False
        self.turn()
        return line

    def not_added(self, error: Exception | None) -> None:
        """No connection was made; all who wait for the only one learn why. None: somebody else shall try."""
        self.connecting = False
        if error is not None and not self.lines:
            for waiter in self._emptied_queue():
                waiter.grant.set_exception(error)
        elif error is not None:
            self.at_most_lines = len(self.lines)  # the first one works: do with it, rather than try at every call
        self.turn()

    def give_back(self, lease: Lease, kind: str) -> None:
        """A channel is idle; one that has ended keeps its slot until somebody needs it, and closes it."""
        if lease.line in self.lines:
            lease.kind = kind
            self.idle.append(lease)
            self.turn()

    def release(self, line: Line) -> None:
        """A slot is free."""
        line.taken -= 1
        self.turn()

    def refused(self, line: Line) -> None:
        """The node granted no session: it has fewer slots than we believed."""
        line.taken -= 1
        line.limit = max(1, min(line.limit, line.taken))

    def drop_dead(self) -> bool:
        """Forget dead connections with their idle channels; whether there was one."""
        dead = [line for line in self.lines if not line.connection.alive]
        if dead:
            self.lines = [line for line in self.lines if line not in dead]
            self.idle = [lease for lease in self.idle if lease.line not in dead]
        return bool(dead)

    def close(self, error: Exception) -> list[Line]:
        """End it all: whoever waits gets the error; the lines are the caller's to close."""
        for waiter in self._emptied_queue():
            waiter.grant.set_exception(error)
        lines, self.lines, self.idle = self.lines, [], []
        return lines

    def _choose(self, waiter: Waiter) -> Grant | None:
        if not waiter.wants_slot:
            if self.lines:
                return Use(self.lines[0])
            return self._connect()
        for lease in self.idle:
            if lease.kind == waiter.kind and not lease.channel.ended and lease.line.connection.alive:
                self.idle.remove(lease)
                return Reuse(lease)
        free = [line for line in self.lines if line.taken < line.limit]
        if free:
            line = min(free, key=lambda line: line.taken)
            line.taken += 1
            return Open(line)
        if self.idle:  # the slot of a channel that has ended, else of the one that was idle longest
            lease = next((lease for lease in self.idle if lease.channel.ended), self.idle[0])
            self.idle.remove(lease)
            return Open(lease.line, instead=lease)
        return self._connect()

    def _connect(self) -> Connect | None:
        if self.connecting or len(self.lines) >= self.at_most_lines:
            return None
        self.connecting = True
        return Connect()

    def _take_back(self, grant: Grant) -> None:
        match grant:
            case Reuse(lease) | Open(instead=Lease() as lease):
                self.idle.append(lease)
            case Open(line):
                line.taken -= 1
            case Connect():
                self.connecting = False

    def _emptied_queue(self) -> Iterator[Waiter]:
        while self.queue:
            waiter = self.queue.popleft()
            if not waiter.grant.done():
                yield waiter
