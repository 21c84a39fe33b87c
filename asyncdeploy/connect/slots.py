"""Who gets which slot of a node's connections: decisions without I/O and without waiting.

The pool does what is decided here. Since nothing is awaited between looking and deciding, there is no race to lose.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs

from asyncdeploy.connect.lease import Lease, PooledConnection
from asyncdeploy.remote.transport import Connection

SUSPECT_S = 2.0
"""A connection that owes an answer for so long, and says nothing else, may have gone dead without a word: new channels
go over another one, while what runs over this one waits on. Round trips take 0.3 s, forks of a loaded sshd 1 s."""
URGENT_SLOTS = 2
"""Beyond a connection's own: for a stop, and for a question about it. sshd allows ten, others take four of them."""


@attrs.frozen(eq=False)
class Reuse:
    """Take this idle channel."""

    lease: Lease


@attrs.frozen(eq=False)
class Open:
    """Open a channel on this connection: a slot is kept for it; an idle channel that holds it is closed first."""

    connection: PooledConnection
    instead: Lease | None = None


@attrs.frozen(eq=False)
class Use:
    """Take this connection as it is, without a slot: something is to be reached through it."""

    connection: PooledConnection


@attrs.frozen(eq=False)
class Connect:
    """Make a connection: nobody else of this node is doing it."""


Grant = Reuse | Open | Use | Connect
G = TypeVar("G", bound=Reuse | Open | Use)


@attrs.define(eq=False)
class Waiter(Generic[G]):
    """Somebody in a queue: what was granted, and the kind of channel that would do."""

    kind: str | None
    grant: asyncio.Future[G | Connect]
    urgent: bool = False


@attrs.define(eq=False)
class Slots:
    """One node's connections, channels and queues.

    Attributes:
        per_connection: slots of a new connection.
        at_most: connections at once.
        lost: is told when a connection was found dead.
        queue: who waits for a channel, first come first served.
        hurried: who goes ahead of them, and may take slots and a connection that they may not.
        passers: who waits for a connection alone.
        connecting: somebody was told to connect and has not come back.
        drops: how often all connections were given up: one that was begun before the last time is not taken.
    """

    per_connection: int
    at_most: int
    lost: Callable[[], None]
    connections: list[PooledConnection] = attrs.field(factory=list)
    idle: list[Lease] = attrs.field(factory=list)
    queue: deque[Waiter[Reuse | Open]] = attrs.field(factory=deque)
    hurried: deque[Waiter[Reuse | Open]] = attrs.field(factory=deque)
    passers: deque[Waiter[Use]] = attrs.field(factory=deque)
    connecting: bool = False
    drops: int = 0
    _most: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._most = self.at_most

    def join(self, kind: str | None, *, urgent: bool = False) -> Waiter[Reuse | Open]:
        """Stand in the queue for a channel, or in that of those who are in a hurry; the grant may be there at once."""
        waiter: Waiter[Reuse | Open] = Waiter(kind, asyncio.get_running_loop().create_future(), urgent)
        (self.hurried if urgent else self.queue).append(waiter)
        self.turn()
        return waiter

    def join_passers(self) -> Waiter[Use]:
        """Stand in the queue for a connection alone; the grant may be there at once."""
        waiter: Waiter[Use] = Waiter(None, asyncio.get_running_loop().create_future())
        self.passers.append(waiter)
        self.turn()
        return waiter

    def spare(self) -> Open | None:
        """Take a slot that is free and that nobody waits for, if there is one."""
        if self.queue or self.hurried:
            return None
        free = [each for each in self._answering() if each.taken < min(each.limit, each.most)]
        return self._opened(free) if free else None

    def leave(self, waiter: Waiter[Any]) -> None:
        """Give up waiting; what was granted meanwhile goes to the next one."""
        for queue in self._queues():
            if waiter in queue:
                queue.remove(waiter)
        # Granted and cancelled within one turn of the loop: the slot would be nobody's, and taken for ever.
        if waiter.grant.done() and not waiter.grant.cancelled() and waiter.grant.exception() is None:
            self._take_back(waiter.grant.result())
        self.turn()

    def turn(self) -> None:
        """Serve the queues in their order, as far as what is free goes."""
        # A pool owns no task that would watch its connections, so they are looked at when somebody wants one.
        self._drop_dead()
        # First those who want no slot: a hundred nodes may wait behind this one, and take nothing from the queue.
        while self.passers:
            answering = self._answering()
            way = Use(answering[0]) if answering else self._connect()
            if way is None:
                break
            self._serve(self.passers, way)
        for queue in (self.hurried, self.queue):
            while queue:  # whoever cannot be served stops all behind: what is free fits any kind
                choice = self._choose(queue[0])
                if choice is None:
                    break
                self._serve(queue, choice)

    def add(self, connection: Connection) -> None:
        """A connection was made."""
        # One more than there may be was made for somebody in a hurry: those who wait would take all of it at once.
        limit = self.per_connection if len(self._answering()) < self.at_most else 0
        self.connections.append(PooledConnection(connection, limit))
        self.connecting = False
        self.turn()

    def not_added(self, error: Exception | None) -> bool:
        """No connection was made: all who wait for the only one learn why; with another alive, that one must do.

        Args:
            error: why; None lets the next in the queue try.

        Returns:
            Whether it was to be the only one.
        """
        self.connecting = False
        self._drop_dead()  # the first one may have died meanwhile: then those who wait must learn it now
        only = not self._answering()
        if error is not None and only:
            self._fail_all(error)
        elif error is not None:
            self.at_most = len(self._answering())  # not tried again at every call
        self.turn()
        return only

    def give_back(self, lease: Lease, kind: str) -> None:
        """A channel is idle; one that has ended keeps its slot until somebody needs it, and closes it."""
        lease.lay_down(kind)
        if lease.connection in self.connections:  # else it was found dead, and its channels with it
            self.idle.append(lease)
            self.turn()

    def release(self, connection: PooledConnection) -> None:
        """A slot is free."""
        connection.taken -= 1
        self.turn()

    def refused(self, connection: PooledConnection) -> None:
        """The node granted no session: it has fewer slots than we believed, of which one must be ours."""
        # It never grows again: what was refused once is refused again, be it by MaxSessions or because sshd frees slots
        # late (of 10 at a time 30 % were refused, of 4 none). One must be left, or the queue would wait for a slot that
        # nobody has to give back.
        connection.most = max(1, connection.taken - 1)
        if connection.limit:
            connection.limit = max(1, min(connection.limit, connection.taken - 1))
        self.release(connection)

    def close(self, error: Exception) -> list[PooledConnection]:
        """End it all: whoever waits gets the error; the connections are the caller's to close."""
        self._fail_all(error)
        connections, self.connections, self.idle = self.connections, [], []
        return connections

    def drop(self) -> list[PooledConnection]:
        """Give all connections up; whoever waits is served by new ones. They are the caller's to close."""
        connections, self.connections, self.idle = self.connections, [], []
        self.drops += 1
        self.at_most = self._most  # another machine may stand there, which allows what this one did not
        if connections:
            self.lost()
        self.turn()
        return connections

    def _choose(self, waiter: Waiter[Any]) -> Reuse | Open | Connect | None:
        answering = self._answering()
        # The one that was given back last has most of what a call needs, and rests in the node's memory.
        idle = [lease for lease in reversed(self.idle) if lease.connection in answering]
        if not waiter.urgent:
            idle = [lease for lease in idle if self._has_room(lease.connection)]
        for lease in idle:
            if lease.kind == waiter.kind and not lease.ended:
                self.idle.remove(lease)
                return Reuse(lease)
        # Eight who follow logs hold all slots for as long as those grow; whoever stops a job must not wait for that.
        spare = URGENT_SLOTS if waiter.urgent else 0
        free = [each for each in answering if each.taken < min(each.limit + spare, each.most)]
        if free:
            return self._opened(free)
        # Rather another's idle channel than a new connection, which takes 7 round trips where a channel takes 2, and
        # 17 ms of the node's CPU. The slot of one that has ended is free for nothing; else the longest idle one goes.
        if idle:
            lease = next((lease for lease in idle if lease.ended), idle[-1])
            self.idle.remove(lease)
            return Open(lease.connection, instead=lease)
        return self._connect(urgent=waiter.urgent)

    def _opened(self, free: Sequence[PooledConnection]) -> Open:
        # The emptiest: the fuller one is, the more often sshd refuses (of 10 at a time 30 %, of 6 0.5 %).
        connection = min(free, key=lambda connection: connection.taken)
        connection.taken += 1
        return Open(connection)

    def _answering(self) -> list[PooledConnection]:
        return [connection for connection in self.connections if connection.inner.owes_s() < SUSPECT_S]

    def _has_room(self, connection: PooledConnection) -> bool:
        """Whether those without a hurry may take what is idle: some of it holds slots that are kept for the others."""
        idle = sum(lease.connection is connection for lease in self.idle)
        return connection.taken - idle < connection.limit

    def _connect(self, *, urgent: bool = False) -> Connect | None:
        # One at a time: it brings slots for those behind as well, and sshd drops us where too many shake hands at once.
        if self.connecting or len(self._answering()) >= self.at_most + (1 if urgent else 0):
            return None
        self.connecting = True
        return Connect()

    def _serve(self, queue: deque[Waiter[G]], grant: G | Connect) -> None:
        waiter = queue.popleft()
        if waiter.grant.done():  # cancelled, and not yet awake to leave
            self._take_back(grant)
        else:
            waiter.grant.set_result(grant)

    def _take_back(self, grant: Grant) -> None:
        match grant:
            case Reuse(lease=lease) if lease.connection in self.connections:
                self.idle.append(lease)
            case Open(instead=Lease() as lease) if lease.connection in self.connections:
                self.idle.append(lease)
            case Open(connection=connection):  # also of one that is dead by now, where it does not matter
                connection.taken -= 1
            case Connect():  # or nobody of this node would connect any more
                self.connecting = False

    def _drop_dead(self) -> None:
        dead = [connection for connection in self.connections if not connection.inner.alive]
        if dead:
            self.connections = [connection for connection in self.connections if connection not in dead]
            self.idle = [lease for lease in self.idle if lease.connection not in dead]
            self.lost()  # even if another one lives: what was learned may be what this one's machine was

    def _queues(self) -> tuple[deque[Any], ...]:
        return self.hurried, self.queue, self.passers

    def _fail_all(self, error: Exception) -> None:
        for queue in self._queues():
            for waiter in queue:
                if not waiter.grant.done():
                    waiter.grant.set_exception(error)
            queue.clear()
