"""Live connections: shared, bounded, closed together."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Self

import anyio
import attrs

from asyncdeploy.connect.lease import Lease, PooledConnection
from asyncdeploy.connect.limits import Limits
from asyncdeploy.connect.slots import Connect, Open, Reuse, Slots, Use
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import MAX_HOPS, Node
from asyncdeploy.remote.transport import Channel, ChannelRefused, Connection, Connector, Route
from asyncdeploy.values.errors import AuthError, Cancelled, ConnectError, ConnectionLost, DeployError, HostKeyError
from asyncdeploy.values.events import Event, Noted, Observer, StageFailed, StageFinished, StageStarted

__all__ = ["Limits", "Pool", "PooledRemote"]

CLOSE_S = 5.0
"""All goodbyes together: what is not said by then is left to the kernel."""
RETRIED = frozenset({"throttled", "timeout"})
"""What may be otherwise a moment later. A refused port, a refused key and a wrong host key are not tried again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
"""Full jitter between these: 100 of 100 connects got through a MaxStartups of 10 within 3.3 s."""
REFUSED_PAUSE_S = 0.2
"""sshd frees a session's slot some tens of milliseconds after the session ended."""
REFUSALS = 100
"""In a row, each time when a slot was believed free: 10 s of them mean that the node does not want to."""


class Pool:
    """Connections to nodes, made when they are first used and closed together at the end of ``async with``.

    Args:
        host_keys: who may answer.
        limits: how much at once.
        observer: sees every event.
        connector: makes the connections; None is SSH. One that is given is closed by who gave it.
    """

    def __init__(
        self,
        *,
        host_keys: HostKeys | None = None,
        limits: Limits | None = None,
        observer: Observer | None = None,
        connector: Connector | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.observer = observer
        self._own = None
        if connector is None:
            connector = self._own = AsyncsshConnector(
                host_keys or HostKeys.strict(),
                connect_timeout_s=self.limits.connect_timeout_s,
                keepalive_s=self.limits.keepalive_s,
                note=lambda node, text: self.emit(Noted(node=node, text=text)),
            )
        self._connector = connector
        self._remotes: dict[Node, PooledRemote] = {}
        self._at_once = anyio.CapacityLimiter(self.limits.connects_at_once)
        self._doors: defaultdict[object, anyio.Semaphore] = defaultdict(
            lambda: anyio.Semaphore(self.limits.connects_per_endpoint)
        )
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection: shielded, within 5 s."""
        self._closed = True
        remotes = list(self._remotes.values())
        ends = [(remote.hops, connection) for remote in remotes for connection in remote.shut()]
        with anyio.move_on_after(CLOSE_S, shield=True):
            for depth in sorted({hops for hops, _ in ends}, reverse=True):  # what lies behind a jump host goes first
                async with anyio.create_task_group() as group:
                    for hops, connection in ends:
                        if hops == depth:
                            group.start_soon(connection.inner.close)
            if self._own is not None:
                await self._own.close()

    @property
    def is_closed(self) -> bool:
        """True once the pool's ``async with`` has ended."""
        return self._closed

    def at(self, node: Node) -> PooledRemote:
        """Return the node's Remote, always the same one; nothing is connected yet."""
        remote = self._remotes.get(node)
        if remote is None:
            remote = self._remotes[node] = PooledRemote(self, node)
        return remote

    def emit(self, event: Event) -> None:
        """Show an event to the observer."""
        if self.observer is not None:
            self.observer(event)

    # -- connecting: called by the one caller of a node whose turn it is --------------------------------------------

    async def connect(self, remote: PooledRemote) -> Connection:
        """Connect to a node, with retries of what is safe to retry, until the deadline.

        Raises:
            ConnectError, AuthError, HostKeyError: why not, and after how many tries.
        """
        node, started = remote.node, monotonic()
        self.emit(StageStarted(node=node.name, stage="connect"))
        try:
            connection = await self._connect_until_deadline(remote)
        except BaseException as error:
            text = str(error).partition("\n")[0] if isinstance(error, DeployError) else type(error).__name__
            self.emit(StageFailed(node=node.name, stage="connect", seconds=monotonic() - started, error=text))
            raise
        self.emit(StageFinished(node=node.name, stage="connect", seconds=monotonic() - started))
        if self._closed:  # while we connected
            await connection.close()
            raise _closed_error(node)
        return connection

    async def _connect_until_deadline(self, remote: PooledRemote) -> Connection:
        node = remote.node
        way = await self._way(node)
        route, remote.hops = way[0], len(way)
        attempts, deadline = 0, float("inf")
        last: ConnectError | None = None
        while True:
            attempts += 1
            through = await self._jump(node, route.jump)
            async with self._door(route):
                # Waiting for the others at the door is no fault of this node: its time begins with its first try.
                deadline = min(deadline, monotonic() + self.limits.connect_deadline_s)
                try:
                    with anyio.fail_after(max(deadline - monotonic(), 0.001)):
                        return await self._connector.connect(node, through)
                except TimeoutError:
                    message = f"no connection within {self.limits.connect_deadline_s:g} s"
                    last = last or ConnectError(node.name, message, reason="timeout")
                except ConnectionLost as error:  # the jump host's
                    last = ConnectError(node.name, error.message, error.hint, reason="throttled")
                except ConnectError as error:
                    if error.reason not in RETRIED:
                        raise attrs.evolve(error, attempts=attempts) from error
                    last = error
            pause = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempts))
            if monotonic() + pause >= deadline or self._closed:
                raise attrs.evolve(last, attempts=attempts) from last
            self.emit(Noted(node=node.name, text=f"connect is tried again in {pause:.1f} s: {last.message}"))
            await anyio.sleep(pause)

    @asynccontextmanager
    async def _door(self, route: Route) -> AsyncIterator[None]:
        """Hold a place at the sshd's door, and at the jump host's."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._doors[route.host, route.port, route.jump])
            if route.jump is not None:
                await stack.enter_async_context(self._doors[route.jump])
            await stack.enter_async_context(self._at_once)
            yield

    async def _way(self, node: Node) -> list[Route]:
        """Return the routes from the node back to us; jump hosts may not stand in a circle."""
        routes, hop = [await self._connector.resolve(node)], node
        seen = {node}
        while routes[-1].jump is not None:
            hop = routes[-1].jump
            if hop in seen or len(seen) > MAX_HOPS:
                raise ConnectError(node.name, f"its jump hosts lead in a circle at {hop.name}", reason="jump")
            seen.add(hop)
            routes.append(await self._connector.resolve(hop))
        return routes

    async def _jump(self, node: Node, jump: Node | None) -> Connection | None:
        """Return the shared connection to a jump host; its errors become the node's, naming the hop."""
        if jump is None:
            return None
        try:
            return await self.at(jump).connection()
        except (ConnectError, AuthError, HostKeyError) as error:
            message = f"jump host {jump.name}: {error.message}"
            if isinstance(error, ConnectError):
                raise attrs.evolve(error, node=node.name, message=message, reason="jump") from error
            raise attrs.evolve(error, node=node.name, message=message) from error


class PooledRemote:
    """A Remote of a pool."""

    def __init__(self, pool: Pool, node: Node) -> None:
        self.node = node
        self.memory: dict[str, object] = {}
        self.hops = 1
        self._pool = pool
        # What was learned may not hold on the next connection: the machine may have been made anew.
        self._slots = Slots(pool.limits.channels_per_connection, pool.limits.connections_per_node, self.memory.clear)

    @property
    def observed(self) -> bool:
        """False if nobody looks at events."""
        return self._pool.observer is not None

    def emit(self, event: Event) -> None:
        """Show an event to the observer."""
        self._pool.emit(event)

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        """Run ``line`` on the node and return its channel, waiting in order for a free slot.

        Args:
            line: a short fixed line without user data.
            kind: an idle channel given back under this kind is returned instead, if there is one.

        Raises:
            ConnectError, AuthError, HostKeyError: no connection.
            ConnectionLost: it broke while opening.
            Cancelled: the pool was closed.
        """
        for _ in range(REFUSALS):
            grant = await self._granted(kind, wants_slot=True)
            if isinstance(grant, Reuse):
                grant.lease.lend()
                return grant.lease
            assert isinstance(grant, Open)
            try:
                return await self._open(grant, line)
            except ChannelRefused as error:
                why = str(error)
            await anyio.sleep(random.uniform(0, REFUSED_PAUSE_S))
        message = f"the node grants no session, asked {REFUSALS} times: {why}"
        hint = "look at MaxSessions in its sshd_config, and at its limits on processes"
        raise ConnectError(self.node.name, message, hint, reason="throttled", attempts=REFUSALS)

    def give_back(self, channel: Channel, kind: str) -> None:
        """Keep a channel that is at rest for the next ``open`` of its kind."""
        assert isinstance(channel, Lease), "a channel goes back to the pool that lent it"
        self._slots.give_back(channel, kind)

    async def connection(self) -> Connection:
        """Return a live connection, for what lies behind this node."""
        grant = await self._granted(None, wants_slot=False)
        assert isinstance(grant, Use)
        return grant.connection.inner

    def shut(self) -> list[PooledConnection]:
        """The pool closes: whoever waits learns it; the connections are the pool's to close."""
        return self._slots.close(_closed_error(self.node))

    async def _granted(self, kind: str | None, *, wants_slot: bool) -> Reuse | Open | Use:
        """Wait for our turn, and connect if that is what our turn says."""
        while True:
            if self._pool.is_closed:
                raise _closed_error(self.node)
            waiter = self._slots.join(kind, wants_slot=wants_slot)
            try:
                grant = await waiter.grant
            except DeployError as error:
                raise attrs.evolve(error) from error  # one failure, many who waited for it: each raises its own
            except BaseException:
                self._slots.leave(waiter)
                raise
            if not isinstance(grant, Connect):
                return grant
            await self._connect()

    async def _connect(self) -> None:
        try:
            connection = await self._pool.connect(self)
        except DeployError as error:
            if self._slots.not_added(error):
                raise
            self.emit(Noted(node=self.node.name, text=f"no second connection, the first one must do: {error.message}"))
        except BaseException:
            self._slots.not_added(None)
            raise
        else:
            self._slots.add(connection)

    async def _open(self, grant: Open, line: str) -> Channel:
        try:
            if grant.instead is not None:
                await grant.instead.close_idle()
            return Lease(await grant.connection.inner.open(line), grant.connection, self._slots.release)
        except ChannelRefused:
            self._slots.refused(grant.connection)
            raise
        except BaseException:
            self._slots.release(grant.connection)
            raise


def _closed_error(node: Node) -> Cancelled:
    return Cancelled(node.name, "the pool was closed")
