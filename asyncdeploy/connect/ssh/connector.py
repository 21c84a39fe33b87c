"""The only door to asyncssh: makes connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio

from asyncdeploy.connect.ssh.connection import ClientConnection, HandshakeClient, SshConnection, cut
from asyncdeploy.connect.ssh.dial import Names
from asyncdeploy.connect.ssh.endpoint import Place, Places
from asyncdeploy.connect.ssh.errors import explain_handshake
from asyncdeploy.connect.ssh.handshake.explain import Asked
from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.keys import KeyRing, Login
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.options import SharedOptions
from asyncdeploy.connect.ssh.reach import Begin, reach, reach_through
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Route
from asyncdeploy.values.errors import HostKeyError


class AsyncsshConnector:
    """Makes SSH connections. ``close`` ends its talk with the ssh-agent.

    Args:
        host_keys: who may answer.
        connect_timeout_s: for TCP, and again for the handshake and login.
        keepalive_s: silence after which the node is asked for a sign of life, three times.
        config_path: another ssh_config than the user's.
        note: is told what a person should know: (node's name, text).
    """

    def __init__(
        self,
        host_keys: HostKeys,
        *,
        connect_timeout_s: float = 15.0,
        keepalive_s: float = 15.0,
        config_path: Path | None = None,
        note: Callable[[str, str], None] | None = None,
    ) -> None:
        self._checker = HostKeyChecker(host_keys)
        self._ring = KeyRing()
        self._places = Places(config_path)
        self._names = Names()
        self._options = SharedOptions(self._checker, keepalive_s)
        self._timeout_s = connect_timeout_s
        self._note = note or _ignore

    async def resolve(self, node: Node) -> Route:
        """Return where the node's sshd is; ssh_config is asked once a node.

        Raises:
            ConnectError: ssh_config cannot be read, or says what we do not do (ProxyCommand).
        """
        return (await self._places.find(node)).route

    async def connect(self, node: Node, through: Connection | None = None) -> SshConnection:
        """Connect once, without a retry; ``through`` is a connection of this connector to the jump host.

        Raises:
            ConnectError, AuthError, HostKeyError: why not.
        """
        place = await self._places.find(node)
        login = await self._login(node, place)
        for text in (*await self._checker.load(), *self._ring.take_notes()):
            self._note(node.name, text)
        client = HandshakeClient(self._checker, place.identity, login)
        options = self._options.copy_for(place, login, client)
        loop = asyncio.get_running_loop()
        greeted = options.waiter = loop.create_future()
        greeted.add_done_callback(_take_note)
        ssh = await self._begin(node, place, lambda: ClientConnection(loop, options, client.seen), through)
        try:
            with anyio.fail_after(self._timeout_s):
                await greeted
        except BaseException as error:
            await cut(ssh)
            await self._record(place.identity, client.seen)
            if isinstance(error, Exception):
                route = place.route
                asked = Asked(node.name, f"{route.host} port {route.port}", place.user, login.problems, ssh.our_kexinit)
                raise explain_handshake(place, asked, client.seen, error) from error
            raise
        connection = SshConnection(node.name, ssh)
        try:
            changed = await self._record(place.identity, client.seen)
        except BaseException:
            await connection.close()
            raise
        if changed is not None:
            await connection.close()
            raise changed
        return connection

    async def _login(self, node: Node, place: Place) -> Login:
        named = node.key_path is not None
        return await self._ring.login(node.name, place.key_paths, agent=place.agent, only=place.keys_only, named=named)

    async def _begin(self, node: Node, place: Place, begin: Begin, through: Connection | None) -> ClientConnection:
        if through is None:
            return await reach(node, place.route, begin, self._names, self._timeout_s)
        assert isinstance(through, SshConnection)
        return await reach_through(through, node, place.route, begin, self._timeout_s)

    async def close(self) -> None:
        """End the talk with the ssh-agent; bounded."""
        await self._ring.close()

    async def _record(self, who: Identity, seen: Seen) -> HostKeyError | None:
        if seen.key is None:
            return None
        try:
            return await self._checker.record(who, seen.key)
        except OSError as error:
            self._note(who.node, f"its host key is trusted until this pool closes, but could not be recorded: {error}")
            return None


def _ignore(_node: str, _text: str) -> None:
    pass


def _take_note(greeted: asyncio.Future[None]) -> None:
    """Look at an error for which nobody waits any more, or the loop would complain of it."""
    if not greeted.cancelled():
        greeted.exception()
