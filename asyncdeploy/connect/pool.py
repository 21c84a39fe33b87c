"""Live connections: shared, bounded, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from asyncdeploy.connect.connecting import Connecting
from asyncdeploy.connect.limits import Limits
from asyncdeploy.connect.pooled_remote import PooledRemote
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Connector
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.events import Noted, Observer

__all__ = ["Limits", "Pool", "PooledRemote"]

CLOSE_S = 5.0
"""All goodbyes together: what is not said by then is left to the kernel."""


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
        self._observer = observer
        self._own = None
        if connector is None:
            connector = self._own = AsyncsshConnector(
                host_keys or HostKeys.strict(),
                connect_timeout_s=self.limits.connect_timeout_s,
                keepalive_s=self.limits.keepalive_s,
                note=self._note,
            )
        self._connecting = Connecting(connector, self.limits, self._jump)
        self._remotes: dict[Node, PooledRemote] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection, within 5 s, whatever cancels us."""
        self._connecting.is_closed = True
        remotes = list(self._remotes.values())
        ends = [(remote.hops, connection.inner) for remote in remotes for connection in remote.shut()]
        await finish(self._close_all(ends), CLOSE_S)

    async def _close_all(self, ends: Sequence[tuple[int, Connection]]) -> None:
        for depth in sorted({hops for hops, _ in ends}, reverse=True):  # what lies behind a jump host goes first
            await asyncio.gather(*(connection.close() for hops, connection in ends if hops == depth))
        if self._own is not None:
            await self._own.close()

    @property
    def is_closed(self) -> bool:
        """True once the pool's ``async with`` has ended."""
        return self._connecting.is_closed

    def at(self, node: Node) -> PooledRemote:
        """Return the node's Remote, always the same one; nothing is connected yet."""
        remote = self._remotes.get(node)
        if remote is None:
            remote = self._remotes[node] = PooledRemote(node, self._connecting, self.limits, self._observer)
        return remote

    async def _jump(self, node: Node) -> Connection:
        return await self.at(node).connection()

    def _note(self, node: str, text: str) -> None:
        if self._observer is not None:
            self._observer(Noted(node=node, text=text))
