"""Connecting to nodes: through which jump hosts, how many at once, and how often it is tried."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

import anyio
import attrs

from asyncdeploy.connect.limits import Limits
from asyncdeploy.nodes.parse import MAX_HOPS, Node
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Connection, Connector, Remote, Route
from asyncdeploy.tasks.progress import note_progress
from asyncdeploy.values.errors import AuthError, Cancelled, ConnectError, ConnectionLost, HostKeyError
from asyncdeploy.values.events import Noted

RETRIED = frozenset({"throttled", "timeout", "unreachable"})
"""What may be otherwise a moment later, as is what an error itself calls passing. A refused port, a refused key and a
wrong host key are not tried again."""
CLOSED = "the pool was closed"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
"""Full jitter between these: 100 of 100 connects got through a MaxStartups of 10 within 3.3 s."""


class Connecting:
    """Makes a pool's connections, so many at once, until it is closed.

    Args:
        connector: makes one connection, once.
        limits: how much at once and for how long.
        jump: returns the connection to a jump host that all nodes behind it share.

    Attributes:
        is_closed: no more connections are made.
    """

    def __init__(self, connector: Connector, limits: Limits, jump: Callable[[Node], Awaitable[Connection]]) -> None:
        self.is_closed = False
        self._connector = connector
        self._limits = limits
        self._jump = jump
        self._at_once = anyio.CapacityLimiter(limits.connects_at_once)
        self._doors: defaultdict[object, anyio.Semaphore] = defaultdict(
            lambda: anyio.Semaphore(limits.connects_per_endpoint)
        )

    async def connect(self, remote: Remote) -> tuple[Connection, int]:
        """Connect to a node, with retries of what is safe to retry, until the deadline.

        Returns:
            The connection, and over how many connections it goes, itself among them.

        Raises:
            ConnectError, AuthError, HostKeyError: why not, and after how many tries.
            Cancelled: the pool was closed meanwhile.
        """
        with stage(remote, "connect"):
            way = await self._way(remote.node)
            connection = await self._connect_until_deadline(remote, way[0])
        if self.is_closed:  # while we connected
            await connection.close()
            raise closed_error(remote.node)
        return connection, len(way)

    async def _connect_until_deadline(self, remote: Remote, route: Route) -> Connection:
        node, attempts, deadline = remote.node, 0, float("inf")
        last: ConnectError | None = None
        while True:
            attempts += 1
            # Before our own place at the door is taken: the jump host has doors of its own to wait at.
            through = await self._through(node, route.jump)
            async with self._door(route):
                # Waiting for the others at the door is no fault of this node: its time begins with its first try.
                deadline = min(deadline, monotonic() + self._limits.connect_deadline_s)
                try:
                    with anyio.fail_after(max(deadline - monotonic(), 0.001)):
                        return await self._connector.connect(node, through)
                except TimeoutError:
                    message = f"no connection within {self._limits.connect_deadline_s:g} s"
                    last = last or ConnectError(node.name, message, reason="timeout")
                except ConnectionLost as error:  # the jump host's
                    last = ConnectError(node.name, error.message, error.hint, reason="throttled")
                except ConnectError as error:
                    if error.reason not in RETRIED and not error.passing:
                        raise attrs.evolve(error, attempts=attempts) from error
                    last = error
            note_progress(last.message)
            pause = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempts))
            if monotonic() + pause >= deadline or self.is_closed:
                raise attrs.evolve(last, attempts=attempts) from last
            remote.emit(Noted(node=node.name, text=f"connect is tried again in {pause:.1f} s: {last.message}"))
            await anyio.sleep(pause)

    @asynccontextmanager
    async def _door(self, route: Route) -> AsyncIterator[None]:
        """Hold a place at the sshd's door, and at the jump host's."""
        async with AsyncExitStack() as stack:
            # The door that all share comes last: nobody holds a place there while it waits at a crowded one.
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
            if hop in seen:
                raise ConnectError(node.name, f"its jump hosts lead in a circle at {hop.name}", reason="jump")
            if len(seen) > MAX_HOPS:
                raise ConnectError(node.name, f"at most {MAX_HOPS} jump hosts were expected on its way", reason="jump")
            seen.add(hop)
            routes.append(await self._connector.resolve(hop))
        return routes

    async def _through(self, node: Node, jump: Node | None) -> Connection | None:
        """Return the shared connection to a jump host; its errors become the node's, naming the hop."""
        if jump is None:
            return None
        try:
            return await self._jump(jump)
        except (ConnectError, AuthError, HostKeyError) as error:
            message = f"jump host {jump.name}: {error.message}"
            if isinstance(error, ConnectError):
                raise attrs.evolve(error, node=node.name, message=message, reason="jump") from error
            raise attrs.evolve(error, node=node.name, message=message) from error


def closed_error(node: Node) -> Cancelled:
    """Return why nothing is asked of a node any more."""
    return Cancelled(node.name, CLOSED)
