"""One SSH connection over asyncssh, and what is learned while it is made."""

from __future__ import annotations

import time
from collections.abc import Sequence

import asyncssh

from asyncdeploy.connect.ssh.channel import SshChannel, open_channel
from asyncdeploy.connect.ssh.handshake.eager import EagerConnection
from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.keys import Login
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.shown_key import ShownKey
from asyncdeploy.connect.ssh.tunnel import SshTunnel, open_tunnel
from asyncdeploy.tasks.finish import finish

CLOSE_S = 3.0
"""How long a goodbye may take before the connection is cut."""
NO_KEY = "Unable to decode host key"
"""What asyncssh says of a key that is none."""
MAX_PROMPTS = 8
"""Questions that are remembered, of those that a server asks a person."""


class SshConnection:
    """A Connection over asyncssh."""

    def __init__(self, node: str, ssh: ClientConnection) -> None:
        self.node = node
        self.ssh = ssh
        self._asked_at = 0.0  # the oldest question that nothing has come after

    async def open(self, line: str) -> SshChannel:
        """Run ``line`` by the login shell and return its channel."""
        if self.ssh.heard_at >= self._asked_at:
            self._asked_at = time.monotonic()
        return await open_channel(self.ssh, self.node, line)

    async def tunnel(self, host: str, port: int) -> SshTunnel:
        """Let the node make a TCP connection and return it."""
        return await open_tunnel(self.ssh, self.node, host, port)

    @property
    def alive(self) -> bool:
        """False once the connection is known to be dead."""
        return not self.ssh.is_closed()

    def owes_s(self) -> float:
        """Return for how long the node has owed an answer while nothing came from it."""
        return time.monotonic() - self._asked_at if self.ssh.heard_at < self._asked_at else 0.0

    async def close(self, farewell: str = "") -> None:
        """Close it; bounded, whatever cancels us."""
        self.ssh.farewell = farewell
        self.ssh.close()
        await finish(self.ssh.wait_closed(), CLOSE_S)
        self.ssh.abort()  # where the goodbye took too long


class HandshakeClient(asyncssh.SSHClient):
    """Answers asyncssh's questions during one connect and keeps what it saw.

    Args:
        checker: judges the node's key.
        who: the node.
        login: what may be offered.
        algorithms: which kinds of host keys are asked for, in order.

    Attributes:
        seen: what was seen.
        shown: the host key that the node showed last.
    """

    def __init__(self, checker: HostKeyChecker, who: Identity, login: Login, algorithms: Sequence[str]) -> None:
        self.login = login
        self.algorithms = algorithms
        self._checker = checker
        self._who = who
        self._trusted: asyncssh.SSHKey | None = None
        self.shown: ShownKey | None = None
        self.seen = Seen({pair.public_data: name for pair, name in zip(login.pairs, login.names, strict=True)})

    def judge(self, data: bytes, peer: str) -> asyncssh.SSHKey:
        """Return the node's host key if it is trusted; a certificate too is judged by our rule, not by asyncssh's.

        Args:
            data: the key as it came; again when the connection's keys are changed, after an hour or a GiB.
            peer: the IP address at which the node was reached.

        Raises:
            asyncssh.HostKeyNotVerifiable: it is not trusted, or no key; ``seen`` has the verdict.
        """
        if self._trusted is None or data != self.seen.shown_key:
            self._trusted, self.seen.shown_key = None, data
            try:
                shown = ShownKey.read(data)
            except asyncssh.KeyImportError:
                raise asyncssh.HostKeyNotVerifiable(NO_KEY) from None
            self.shown = shown
            self.seen.verdict = self._checker.judge(self._who, shown, peer)
            if self.seen.verdict is not None:
                raise asyncssh.HostKeyNotVerifiable(self.seen.verdict.message)
            self._trusted = shown.plain
            self.seen.key = None if self._checker.is_certified(self._who, shown) else shown.plain
        return self._trusted

    def begin_auth(self, username: str) -> None:
        """The node's key was accepted."""
        self.seen.login_began = True

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """The server has something to say to people, before it lets anybody in."""
        self.seen.say(msg)

    def kbdint_auth_requested(self) -> str:
        """Go along with keyboard-interactive: PAM often asks nothing once a key was accepted."""
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """Answer where nothing is asked; what is asked is for a person, of whom there is none here."""
        self.seen.say(f"{name}\n{instructions}")
        self.seen.asked = tuple(prompt for prompt, _ in prompts[:MAX_PROMPTS])
        return None if prompts else []


class ClientConnection(EagerConnection):
    """asyncssh's connection, whose host key is judged by our client alone.

    Attributes:
        heard_at: when anything came from the node, by the monotonic clock.
    """

    heard_at = 0.0

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data, datatype)

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        """Return the node's host key if it is trusted."""
        client = self.get_owner()
        assert isinstance(client, HandshakeClient)
        peer = self.get_extra_info("peername")
        self._server_host_key = client.judge(key_data, str(peer[0]) if peer else "")
        return self._server_host_key


async def cut(ssh: asyncssh.SSHClientConnection) -> None:
    ssh.abort()
    await finish(ssh.wait_closed(), CLOSE_S)
