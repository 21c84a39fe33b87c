"""One SSH connection over asyncssh, and what is learned while it is made."""

from __future__ import annotations

import time
from collections.abc import Sequence

import asyncssh

from asyncdeploy.connect.ssh.channel import SshChannel, open_channel
from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.connect.ssh.handshake.watched import WatchedConnection
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.keys import Login
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.verdicts import unknown_error
from asyncdeploy.tasks.finish import finish

CLOSE_S = 3.0
"""How long a goodbye may take before the connection is cut."""
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

    @property
    def alive(self) -> bool:
        """False once the connection is known to be dead."""
        return not self.ssh.is_closed()

    def owes_s(self) -> float:
        """Return for how long the node has owed an answer while nothing came from it."""
        return time.monotonic() - self._asked_at if self.ssh.heard_at < self._asked_at else 0.0

    async def close(self) -> None:
        """Close it; bounded, whatever cancels us."""
        self.ssh.close()
        await finish(self.ssh.wait_closed(), CLOSE_S)
        self.ssh.abort()  # where the goodbye took too long


class HandshakeClient(asyncssh.SSHClient):
    """Answers asyncssh's questions during one connect and keeps what it saw."""

    def __init__(self, checker: HostKeyChecker, who: Identity, login: Login) -> None:
        self._checker = checker
        self._who = who
        self.seen = Seen({pair.public_data: name for pair, name in zip(login.pairs, login.names, strict=True)})

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Judge the node's key; asyncssh was given no trusted key, so every one comes here."""
        self.seen.verdict = self._checker.judge(self._who, key)
        if self.seen.verdict is None:
            self.seen.key = key
        return self.seen.verdict is None

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """A certificate authority that we do not know signed the node's certificate."""
        self.seen.verdict = unknown_error(self._who, key.public_data)
        return False

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


class ClientConnection(WatchedConnection):
    """asyncssh's connection, which notes also a host key that asyncssh itself refuses.

    Attributes:
        heard_at: when anything came from the node, by the monotonic clock.
    """

    heard_at = 0.0

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data, datatype)

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        self.seen.shown_key = key_data
        return super().validate_server_host_key(key_data)


async def cut(ssh: asyncssh.SSHClientConnection) -> None:
    ssh.abort()
    await finish(ssh.wait_closed(), CLOSE_S)
