"""Live connections: shared, bounded, closed together."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from asyncdeploy.connect.connecting import CLOSED, Connecting
from asyncdeploy.connect.limits import Limits
from asyncdeploy.connect.pooled_remote import PooledRemote
from asyncdeploy.connect.srun.connector import SrunConnector
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Connector
from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.one_loop import OneLoop
from asyncdeploy.values.arguments import checked, checked_class
from asyncdeploy.values.events import Noted, Observer
from asyncdeploy.values.observing import Guard

__all__ = ["Limits", "Pool", "PooledRemote"]

CLOSE_S = 5.0
"""All goodbyes together: what is not said by then is left to the kernel."""


@checked_class
class Pool:
    """Connections to nodes, made when they are first used and closed together at the end of ``async with``.

    It belongs to the event loop in which it is used first: each ``asyncio.run`` makes its own.

    Args:
        host_keys: who may answer.
        limits: how much at once.
        observer: sees every event.
        connector: makes the connections; None is SSH, and srun for nodes with a ``slurm_job``. One that is given is
            closed by who gave it.

    Raises:
        RuntimeError: by whatever connects or closes, in another event loop than the first.
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
        self._guard = Guard(observer)
        self._loop = OneLoop("this Pool", "each asyncio.run needs a Pool of its own")
        self._own = None
        if connector is None:
            self._own = AsyncsshConnector(
                host_keys or HostKeys.strict(),
                connect_timeout_s=self.limits.connect_timeout_s,
                keepalive_s=self.limits.keepalive_s,
                note=self._note,
            )
            connector = SrunConnector(self._own)
        self._connecting = Connecting(connector, self.limits, self._jump)
        self._remotes: dict[Node, PooledRemote] = {}
        self._ends: list[tuple[int, Connection]] = []

    async def __aenter__(self) -> Self:
        self._loop.check()
        if self.is_closed:
            raise RuntimeError("this Pool was closed; make another one")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, within 5 s, whatever cancels us: what leaving the block does. May be called again.

        Whoever waits for a connection is told (Cancelled). What runs attached is ended by its leash, and told that
        nobody saw its end (Abandoned); jobs are untouched.
        """
        self._loop.check()
        if not self._connecting.is_closed:
            self._connecting.is_closed = True
            remotes = list(self._remotes.values())
            self._ends = [(remote.hops, connection.inner) for remote in remotes for connection in remote.shut()]
        await finish(self._close_all(), CLOSE_S)

    async def _close_all(self) -> None:
        for depth in sorted({hops for hops, _ in self._ends}, reverse=True):  # what lies behind a jump host goes first
            await asyncio.gather(*(connection.close(CLOSED) for hops, connection in self._ends if hops == depth))
        if self._own is not None:
            await self._own.close()

    @checked
    async def drop(self, node: Node) -> None:
        """Close a node's connections, within 5 s: its next use connects anew, as after it was made anew or moved.

        What runs attached there is ended by its leash, and told that nobody saw its end (Abandoned); jobs are
        untouched. Of a jump host the nodes behind it lose their connections too.

        Args:
            node: the node; one that was never used is no error.
        """
        self._loop.check()
        if (remote := self._remotes.get(node)) is not None:
            await finish(remote.drop(), CLOSE_S)

    def check_loop(self) -> None:
        """Take note of the running loop the first time.

        Raises:
            RuntimeError: it is another one than then.
        """
        self._loop.check()

    @property
    def is_closed(self) -> bool:
        """True once the pool was closed."""
        return self._connecting.is_closed

    @checked
    def at(self, node: Node) -> PooledRemote:
        """Return the node's Remote, always the same one; nothing is connected yet.

        Raises:
            TypeError: it is no Node.
        """
        remote = self._remotes.get(node)
        if remote is None:
            remote = PooledRemote(node, self._connecting, self.limits, self._guard, self._loop)
            self._remotes[node] = remote
        return remote

    async def _jump(self, node: Node) -> Connection:
        return await self.at(node).connection()

    def _note(self, node: str, text: str) -> None:
        self._guard.emit(Noted(node=node, text=text))
