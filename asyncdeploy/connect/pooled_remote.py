"""A node of a pool as the verbs see it: its channels are lent, its connections shared."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

import anyio
import attrs

from asyncdeploy.connect.connecting import Connecting, closed_error
from asyncdeploy.connect.lease import Lease, PooledConnection
from asyncdeploy.connect.limits import Limits
from asyncdeploy.connect.slots import SUSPECT_S, Connect, Open, Reuse, Slots, Use, Waiter
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Channel, ChannelRefused, Connection
from asyncdeploy.tasks.finish import finish, outlast
from asyncdeploy.tasks.one_loop import OneLoop
from asyncdeploy.tasks.urgency import is_urgent
from asyncdeploy.values.errors import ConnectError, ConnectionLost, DeployError
from asyncdeploy.values.events import Event, Noted
from asyncdeploy.values.observing import Guard
from asyncdeploy.values.words import one_line

CLOSE_S = 1.0
"""To take back what was asked of a connection: nothing is waited for on the network."""
REFUSED_PAUSE_S = 0.2
"""sshd frees a session's slot some tens of milliseconds after the session ended."""
REFUSALS = 100
"""In a row, each time when a slot was believed free: 10 s of them mean that the node does not want to."""

DROPPED = "its connections were dropped (Pool.drop)"
"""What lines that run on a node are told when it is dropped."""

G = TypeVar("G", bound=Reuse | Open | Use)


class PooledRemote:
    """A Remote of a pool.

    Args:
        node: whose it is.
        connecting: makes its connections.
        limits: how many of them, and how many channels over each.
        guard: shows events to the pool's observer.
        loop: the event loop that all of it belongs to.

    Attributes:
        hops: over how many connections it is reached: what lies behind a jump host is closed before it.
    """

    def __init__(self, node: Node, connecting: Connecting, limits: Limits, guard: Guard, loop: OneLoop) -> None:
        self.node = node
        self.memory: dict[str, object] = {}
        self.hops = 1
        self._connecting = connecting
        self._guard = guard
        self._loop = loop
        # What was learned may not hold on the next connection: the machine may have been made anew.
        self._slots = Slots(limits.channels_per_connection, limits.connections_per_node, self.memory.clear)

    @property
    def observed(self) -> bool:
        """False if nobody looks at events."""
        return self._guard.looks

    def emit(self, event: Event) -> None:
        """Show an event to the observer."""
        self._guard.emit(event)

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        """Run ``line`` on the node and return its channel; waits for a slot, in order, or ``urgently`` ahead of others.

        Args:
            line: a short fixed line without user data.
            kind: an idle channel given back under this kind is returned instead, if there is one.

        Raises:
            ConnectError, AuthError, HostKeyError: no connection.
            ConnectionLost: it broke while opening.
            Cancelled: the pool was closed.
        """
        for _ in range(REFUSALS):
            drops = self._slots.drops
            grant = await self._granted(lambda: self._slots.join(kind, urgent=is_urgent()))
            if isinstance(grant, Reuse):
                grant.lease.lend()
                return grant.lease
            try:
                return await self._open(grant, line)
            except Silent:
                continue  # over another connection, which is made if need be
            except ConnectionLost:
                if self._connecting.is_closed:  # by ourselves, and nothing was begun there: we are as those who wait
                    raise closed_error(self.node) from None
                if self._slots.drops == drops:
                    raise
                why = DROPPED
                continue  # it was dropped under us, and the next use connects anew
            except ChannelRefused as error:
                why = str(error)
            # To the end of the queue, and not at once: all who were refused with us would come again together.
            await anyio.sleep(random.uniform(0, REFUSED_PAUSE_S))
        message = f"the node grants no session, asked {REFUSALS} times: {why}"
        hint = "look at MaxSessions in its sshd_config, and at its limits on processes"
        raise ConnectError(self.node.name, message, hint, reason="throttled", attempts=REFUSALS)

    async def open_spare(self, line: str) -> Channel | None:
        """Run ``line`` by a slot that nobody wants at the moment, if there is one and the node grants it.

        Raises:
            ConnectionLost: the connection broke while opening.
        """
        grant = self._slots.spare()
        try:
            return await self._open(grant, line) if grant is not None else None
        except (Silent, ChannelRefused):
            return None

    def give_back(self, channel: Channel, kind: str) -> None:
        """Keep a channel that is at rest for the next ``open`` of its kind."""
        assert isinstance(channel, Lease), "a channel goes back to the pool that lent it"
        self._slots.give_back(channel, kind)

    async def connection(self) -> Connection:
        """Return a live connection, for what lies behind this node."""
        return (await self._granted(self._slots.join_passers)).connection.inner

    def shut(self) -> list[PooledConnection]:
        """The pool closes: whoever waits learns it; the connections are the pool's to close."""
        return self._slots.close(closed_error(self.node))

    async def drop(self) -> None:
        """Close its connections; who waits for one, and the next use, gets a new one."""
        await asyncio.gather(*(connection.inner.close(DROPPED) for connection in self._slots.drop()))

    async def _granted(self, join: Callable[[], Waiter[G]]) -> G:
        """Wait for our turn, and connect if that is what our turn says."""
        self._loop.check()
        while True:
            if self._connecting.is_closed:
                raise closed_error(self.node)
            waiter = join()
            try:
                grant = await waiter.grant
            except DeployError as error:
                raise attrs.evolve(error) from error  # one failure, many who waited for it: each raises its own
            except BaseException:
                self._slots.leave(waiter)
                raise
            # It fell to us to connect for all who wait; what we are granted is decided anew when that is done.
            if not isinstance(grant, Connect):
                return grant
            await self._connect()

    async def _connect(self) -> None:
        drops = self._slots.drops
        try:
            connection, self.hops = await self._connecting.connect(self)
        except DeployError as error:
            self._not_connected(error)
        except Exception as cause:  # noqa: BLE001 - a slip of the connector's; who waits must learn of it all the same
            what = f"connecting raised {type(cause).__name__}: {one_line(str(cause))}"
            slip = ConnectError(self.node.name, what, reason="protocol")
            slip.__cause__, slip.cause_is_theirs = cause, True
            self._not_connected(slip)
        except BaseException:  # we were cancelled, which is no reason for the others to fail: the next one connects
            self._slots.not_added(None)
            raise
        else:
            if self._slots.drops == drops:
                self._slots.add(connection)
            else:  # dropped meanwhile: what we have reached may be what is to be left
                self._slots.not_added(None)
                await connection.close()

    def _not_connected(self, error: DeployError) -> None:
        if self._slots.not_added(error):
            raise error  # ours alone; the others were told by their own waiters
        self.emit(Noted(node=self.node.name, text=f"no second connection, the first one must do: {error.message}"))

    async def _open(self, grant: Open, line: str) -> Channel:
        try:
            if grant.instead is not None:
                await grant.instead.close_idle()
            channel = await _unless_silent(grant.connection.inner, line)
            return Lease(channel, grant.connection, self._slots.release)
        except ChannelRefused:
            self._slots.refused(grant.connection)
            raise
        except BaseException:  # cancelled too: the channel ends itself when it is granted, see _Wire
            self._slots.release(grant.connection)
            raise


class Silent(Exception):
    """Nothing at all came over a connection for a while after we asked for a channel."""


async def _unless_silent(connection: Connection, line: str) -> Channel:
    """Open a channel; Silent where the connection may have gone dead without a word."""
    opening = asyncio.get_running_loop().create_task(connection.open(line))
    opening.add_done_callback(_read_error)
    try:
        await _answer(opening, connection)
    except BaseException:
        if opening.cancel():  # a channel that is granted later closes itself
            if (cancelled := await outlast(opening, CLOSE_S)) is not None:
                raise cancelled from None  # Silent asks for another try, which nobody wants any more
        elif not opening.exception():  # granted in the very turn in which we were cancelled: nobody else knows of it
            await finish(opening.result().close(), CLOSE_S)
        raise
    return opening.result()


async def _answer(opening: asyncio.Task[Channel], connection: Connection) -> None:
    while not opening.done():
        await asyncio.wait((opening,), timeout=SUSPECT_S)
        if not opening.done() and connection.owes_s() >= SUSPECT_S:
            raise Silent


def _read_error(task: asyncio.Task[Channel]) -> None:
    """Take note of an error that a cancellation outranks, or the loop would complain that nobody did."""
    if not task.cancelled():
        task.exception()
