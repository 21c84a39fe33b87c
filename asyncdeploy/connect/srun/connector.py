"""Nodes of a Slurm job, reached by srun; all others as ever."""

from __future__ import annotations

import attrs

from asyncdeploy.connect.srun.here import HereConnection, no_tunnel
from asyncdeploy.connect.srun.line import login_line
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Channel, Connection, Connector, Route, Tunnel
from asyncdeploy.values.errors import AuthError, ConnectError, HostKeyError

HERE = Route("this machine", 0)
"""Where srun runs if no login node is said: we are inside the job, or on the login node."""


class SrunConnector:
    """Makes connections to nodes of a Slurm job over ones to its login node; leaves other nodes to another connector.

    A node has a connection of its own to the login node, with its own sessions: all nodes over one would meet
    MaxSessions at the tenth.

    Args:
        inner: the other connector.
    """

    def __init__(self, inner: Connector) -> None:
        self._inner = inner

    async def resolve(self, node: Node) -> Route:
        """Return where the sshd is over which the node is reached.

        Raises:
            ConnectError: the user's ssh_config cannot be followed.
        """
        if node.slurm_job is None:
            return await self._inner.resolve(node)
        return HERE if node.jump is None else await self._inner.resolve(node.jump)

    async def connect(self, node: Node, through: Connection | None = None) -> Connection:
        """Connect once, without a retry; that a step can be started is seen when the first line is run.

        Raises:
            ConnectError, AuthError, HostKeyError: why not.
        """
        if node.slurm_job is None:
            return await self._inner.connect(node, through)
        if node.jump is None:
            return HereConnection(node)
        try:
            return SrunConnection(node, await self._inner.connect(node.jump, through))
        except (ConnectError, AuthError, HostKeyError) as error:
            message = f"login node {node.jump.name}: {error.message}"
            raise attrs.evolve(error, node=node.name, message=message) from error


class SrunConnection:
    """A Connection to a node of a Slurm job over one to its login node."""

    def __init__(self, node: Node, login: Connection) -> None:
        self._node = node
        self._login = login

    async def open(self, line: str) -> Channel:
        """Run ``line`` in a step of the job and return its channel."""
        return await self._login.open(login_line(self._node, line))

    async def tunnel(self, host: str, port: int) -> Tunnel:
        """Refuse: srun carries lines."""
        raise no_tunnel(self._node, port)

    @property
    def alive(self) -> bool:
        """False once the connection to the login node is known to be dead."""
        return self._login.alive

    def owes_s(self) -> float:
        """Return for how long the login node has owed an answer while nothing came from it."""
        return self._login.owes_s()

    async def close(self, farewell: str = "") -> None:
        """Close it; bounded."""
        await self._login.close(farewell)
