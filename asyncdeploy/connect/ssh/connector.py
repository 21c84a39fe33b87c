"""The only door to asyncssh: makes connections."""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import asyncssh
import attrs

from asyncdeploy.connect.ssh.config import SshConfig, ask_ssh
from asyncdeploy.connect.ssh.config_hosts import UNNAMED, NamedHosts
from asyncdeploy.connect.ssh.connection import HandshakeClient, SshConnection, SshLine, cut
from asyncdeploy.connect.ssh.dial import dial
from asyncdeploy.connect.ssh.endpoint import Identity, Place, complete_node, is_numeric, says_all
from asyncdeploy.connect.ssh.errors import Seen, connect_error, dial_error, explain_handshake
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.keys import KeyRing, Login
from asyncdeploy.connect.ssh.options import host_key_algorithms, make_options
from asyncdeploy.connect.ssh.wire import TcpWire
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Route
from asyncdeploy.values.errors import ConnectionLost, HostKeyError

CONFIGS_AT_ONCE = 4
"""`ssh -G` takes 5 ms of a core each."""
NAMES_AT_ONCE = 32
"""Look-ups waiting for a slow name server; a limit of our own, for the loop's few threads serve others too."""


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
        self._timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._config_path = config_path
        self._note = note or (_ignore)
        self._ring = KeyRing()
        self._places: dict[Node, Place] = {}
        self._options: dict[tuple[str, Login], asyncssh.SSHClientConnectionOptions] = {}
        self._asking = anyio.CapacityLimiter(CONFIGS_AT_ONCE)
        self._naming_hosts = anyio.Lock()
        self._named: NamedHosts | None = None
        self._of_all: dict[tuple[str | None, int | None], SshConfig] = {}
        self._naming = anyio.CapacityLimiter(NAMES_AT_ONCE)

    async def resolve(self, node: Node) -> Route:
        """Return where the node's sshd is; ssh_config is asked once a node.

        Raises:
            ConnectError: ssh_config cannot be read, or says what we do not do (ProxyCommand).
        """
        return (await self._place(node)).route

    async def connect(self, node: Node, through: Connection | None = None) -> SshConnection:
        """Connect once, without a retry; ``through`` is a connection of this connector to the jump host.

        Raises:
            ConnectError, AuthError, HostKeyError: why not.
        """
        place = await self._place(node)
        login = await self._ring.login(node.name, place.key_paths, agent=place.agent, only=place.keys_only)
        for text in (*await self._checker.load(), *_emptied(self._ring.notes)):
            self._note(node.name, text)
        client = HandshakeClient(self._checker, place.identity)
        options = self._options_for(place, login, client)
        greeted = options.waiter = asyncio.get_running_loop().create_future()
        if through is None:
            line = await self._reach(node, place, options)
        else:
            assert isinstance(through, SshConnection)
            line = await self._tunnel(node, place, options, through)
        try:
            with anyio.fail_after(self._timeout_s):
                await greeted
        except BaseException as error:
            await cut(line)
            await self._record(place.identity, client.seen)
            if isinstance(error, asyncssh.Error | OSError):
                raise explain_handshake(node, place, login, client.seen, error) from error
            raise
        connection = SshConnection(node.name, line)
        try:
            changed = await self._record(place.identity, client.seen)
        except BaseException:
            await connection.close()
            raise
        if changed is not None:
            await connection.close()
            raise changed
        return connection

    async def close(self) -> None:
        """End the talk with the ssh-agent; bounded."""
        await self._ring.close()

    # -- where and as whom ----------------------------------------------------------------------------------------

    async def _place(self, node: Node) -> Place:
        if node not in self._places:
            config = SshConfig()
            if not says_all(node):
                config = await self._ask(node)
            self._places[node] = complete_node(node, config)
        return self._places[node]

    async def _ask(self, node: Node) -> SshConfig:
        """Ask ssh about a node; those that its configuration does not tell apart are asked about once."""
        async with self._naming_hosts:
            if self._named is None:
                self._named = await anyio.to_thread.run_sync(NamedHosts.read, self._config_path)
            key = (node.user, node.port)
            if not self._named.tell_apart(node.host):
                if key not in self._of_all:
                    self._of_all[key] = await self._ask_ssh(node, UNNAMED)
                of_all = self._of_all[key]
                if not of_all.by_name and of_all.jump is None:  # a jump host is not behind itself
                    return attrs.evolve(of_all, host=node.host)
        async with self._asking:
            return await self._ask_ssh(node, node.host)

    async def _ask_ssh(self, node: Node, host: str) -> SshConfig:
        return await ask_ssh(host, node=node.name, user=node.user, port=node.port, file=self._config_path)

    async def _reach(self, node: Node, place: Place, options: asyncssh.SSHClientConnectionOptions) -> SshLine:
        """Make the TCP connection and set the SSH line upon it."""
        route, loop = place.route, asyncio.get_running_loop()
        where = f"{route.host} port {route.port}"
        try:
            with anyio.fail_after(self._timeout_s):
                addresses = await self._look_up(route)
                sock = await dial(addresses)
        except socket.gaierror as error:
            raise connect_error(node, "dns", f"the name {route.host} is not known: {error.strerror}") from error
        except TimeoutError as error:
            raise connect_error(node, "timeout", f"{where} did not answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise dial_error(node, where, error) from error
        try:
            _, line = await loop.create_connection(lambda: SshLine(loop, options, wait="auth"), sock=sock)
        except BaseException:
            sock.close()
            raise
        return line

    async def _look_up(self, route: Route) -> Sequence[tuple[int, Any]]:
        flags = socket.AI_NUMERICHOST if is_numeric(route.host) else 0

        def look_up() -> list[tuple[Any, ...]]:
            return list(socket.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM, flags=flags))

        if flags:
            found = look_up()
        else:
            found = await anyio.to_thread.run_sync(look_up, limiter=self._naming, abandon_on_cancel=True)
        return [(family, address) for family, _, _, _, address in found]

    async def _tunnel(
        self, node: Node, place: Place, options: asyncssh.SSHClientConnectionOptions, jump: SshConnection
    ) -> SshLine:
        """Set the SSH line upon a TCP connection that the jump host makes."""
        route, loop = place.route, asyncio.get_running_loop()
        where = f"jump host {jump.node} could not reach {route.host} port {route.port}"
        # asyncssh itself uses a connection as the session of a channel here; its types do not say so.
        made = cast("Callable[[], asyncssh.SSHTCPSession[bytes]]", lambda: SshLine(loop, options, wait="auth"))
        wire = TcpWire(jump.line, loop, None, "strict", 2 << 20, 64 << 10)
        try:
            with anyio.fail_after(self._timeout_s):
                line = await wire.connect(made, route.host, route.port, "", 0)
        except BaseException as error:
            wire.abandon()
            if isinstance(error, TimeoutError):
                raise connect_error(node, "timeout", f"{where} within {self._timeout_s:g} s") from error
            if isinstance(error, asyncssh.ChannelOpenError):
                raise connect_error(node, "jump", f"{where}: {error.reason}") from error
            if isinstance(error, asyncssh.Error | OSError):
                raise ConnectionLost(node.name, f"the connection to jump host {jump.node} broke: {error}") from error
            raise
        return cast(SshLine, line)

    def _options_for(self, place: Place, login: Login, client: HandshakeClient) -> asyncssh.SSHClientConnectionOptions:
        """Return options of this connection: a copy of those that all with the same user and keys share.

        Making them anew costs 2 ms and reads files; asyncssh.connect would do both, on a thread, for every connection.
        """
        shared = place.user, login
        if shared not in self._options:
            self._options[shared] = make_options(place.user, login, self._keepalive_s)
        options = copy.copy(self._options[shared])
        known = self._checker.known(place.identity)
        authorities = self._checker.keys(known.authorities)
        # No trusted keys: asyncssh then asks our client about every one. Certificates it checks itself.
        revoked = self._checker.keys(known.revoked) if authorities else []
        options.known_hosts = ([], authorities, revoked, [], [], [], [])
        options.server_host_key_algs = host_key_algorithms(self._checker, known)
        options.host, options.port = place.route.host, place.route.port
        options.host_key_alias = place.identity.alias
        options.protocol_factory = lambda: client
        return options

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


def _emptied(notes: list[str]) -> list[str]:
    taken, notes[:] = list(notes), []
    return taken
