"""The only door to asyncssh: makes connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import anyio

from asyncdeploy.connect.ssh.connection import ClientConnection, HandshakeClient, SshConnection, cut
from asyncdeploy.connect.ssh.dial import Names
from asyncdeploy.connect.ssh.endpoint import Place, Places
from asyncdeploy.connect.ssh.errors import explain_handshake
from asyncdeploy.connect.ssh.handshake.explain import Asked
from asyncdeploy.connect.ssh.handshake.seen import Seen, read_offers
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.keys import KeyRing, Login
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.shown_key import ShownKey
from asyncdeploy.connect.ssh.options import SharedOptions
from asyncdeploy.connect.ssh.reach import Begin, reach, reach_through
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Route
from asyncdeploy.tasks.progress import note_progress
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
        self._note = note or _ignore
        # Who says himself which keys are trusted needs no program that says it.
        excused = ["KnownHostsCommand"] if host_keys.path is not None or host_keys.mode == "pinned" else []
        self._places = Places(config_path, excused, self._note)
        self._names = Names()
        self._options = SharedOptions(keepalive_s)
        self._timeout_s = connect_timeout_s

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
        try:
            login = await self._login(node, place)
        finally:
            self._tell(node, self._ring.take_notes())
        self._tell(node, await self._checker.load(place.identity))
        algorithms = self._checker.algorithms(place.identity)
        shown: list[ShownKey] = []
        while True:
            client = HandshakeClient(self._checker, place.identity, login, algorithms)
            try:
                return await self._shake_hands(node, place, client, through)
            except HostKeyError as error:
                if client.shown is not None:
                    shown.append(client.shown)
                algorithms = self._left(client, place.identity, shown)
                if not algorithms:
                    raise self._checker.refusal(place.identity, shown, error) from error

    async def _shake_hands(
        self, node: Node, place: Place, client: HandshakeClient, through: Connection | None
    ) -> SshConnection:
        options = self._options.copy_for(place, client)
        loop = asyncio.get_running_loop()
        greeted = options.waiter = loop.create_future()
        greeted.add_done_callback(_take_note)
        where = f"{place.route.host} port {place.route.port}"
        note_progress(f"{where} is asked for a connection")
        ssh = await self._begin(node, place, lambda: ClientConnection(loop, options, client.seen), through)
        note_progress(f"{where} accepts connections, no login yet")
        try:
            with anyio.fail_after(self._timeout_s):
                await greeted
        except BaseException as error:
            await cut(ssh)
            await self._record(place.identity, client.seen)
            if isinstance(error, Exception):
                asked = Asked(node.name, where, place.user, client.login.problems, ssh.our_kexinit)
                raise explain_handshake(asked, client.seen, error) from error
            raise
        note_progress(f"{where} has let us in")
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

    def _left(self, client: HandshakeClient, who: Identity, shown: Sequence[ShownKey]) -> tuple[str, ...]:
        """Return which other kinds of host keys the node has, if one of them may be the right one."""
        seen = client.seen
        if seen.verdict is None or seen.verdict.reason == "revoked" or not shown:
            return ()
        has = [name.decode("ascii", "replace") for names in read_offers(seen.kexinit)[1:2] for name in names]
        return tuple(name for name in self._checker.algorithms_left(who, client.algorithms, shown) if name in has)

    def _tell(self, node: Node, notes: Iterable[str]) -> None:
        for text in notes:
            self._note(node.name, text)

    async def _login(self, node: Node, place: Place) -> Login:
        bits = place.identity.trust.rsa_bits
        return await self._ring.login(node.name, place.keys, least_bits=bits, named=node.key_path is not None)

    async def _begin(self, node: Node, place: Place, begin: Begin, through: Connection | None) -> ClientConnection:
        if through is None:
            return await reach(node, place, begin, self._names, self._timeout_s, partial(self._met, node, place))
        assert isinstance(through, SshConnection)
        return await reach_through(through, node, place.route, begin, self._timeout_s)

    async def _met(self, node: Node, place: Place, address: str) -> None:
        if place.identity.trust.checks_address:
            self._tell(node, await self._checker.load(place.identity, address))

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
