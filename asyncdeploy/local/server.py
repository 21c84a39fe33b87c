"""The sshd of a LocalCluster's node: asyncssh behind gates, on a free port of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import anyio
import asyncssh
import attrs

from asyncdeploy.local.faults import Gate
from asyncdeploy.local.host import CLEAR_S, Host
from asyncdeploy.local.session import Login


@attrs.define(eq=False)
class Server:
    """Listens for a node; one key may log in.

    Attributes:
        public_key / port: the node's own key and where it listens, once it does.
    """

    host: Host
    client_key: asyncssh.SSHKey
    public_key: str = attrs.field(default="", init=False)
    port: int = attrs.field(default=0, init=False)
    _listening: asyncio.Server | None = attrs.field(default=None, init=False)

    async def listen(self) -> None:
        """Start the server on a free port."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.public_key = key.export_public_key().decode().strip()
        await asyncssh.listen(
            "127.0.0.1",
            0,
            tunnel=cast(Any, self),  # whatever has a create_server; asyncssh's own type for it is private
            config=None,
            server_factory=lambda: Login(self.host, self.client_key),
            server_host_keys=[key],
            kex_algs=["curve25519-sha256"],  # the cheapest: there is nothing to hide from loopback
            encoding=None,
            line_editor=False,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
        )

    async def create_server(self, accept: Callable[[str, int], Any], host: str, port: int) -> asyncio.Server:
        """Listen for asyncssh as a tunnel would, and so put a gate before each connection."""

        def gate() -> Gate:
            return Gate(accept("", 0), self.host.faults, self.host.gates)

        # Begun only when we hold it: cancelled in create_server's own wait for that, it would listen and be nobody's.
        loop = asyncio.get_running_loop()
        self._listening = server = await loop.create_server(gate, host, port, start_serving=False)
        await server.start_serving()
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def close(self) -> dict[int, str]:
        """Stop listening, cut all connections, end all that runs; return what could not be ended."""
        if self._listening is not None:
            self._listening.close()
        left = await self.host.end()
        if self._listening is not None:
            with anyio.move_on_after(CLEAR_S):
                await self._listening.wait_closed()
        return left
