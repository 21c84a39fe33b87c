"""One SSH connection over asyncssh, and what is learned while it is made."""

from __future__ import annotations

import time

import asyncssh

from asyncdeploy.connect.ssh.channel import SshChannel, open_channel
from asyncdeploy.connect.ssh.errors import Seen
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.verdicts import unknown_error
from asyncdeploy.tasks.finish import finish

CLOSE_S = 3.0
"""How long a goodbye may take before the connection is cut."""


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

    def __init__(self, checker: HostKeyChecker, who: Identity) -> None:
        self._checker = checker
        self._who = who
        self.seen = Seen()

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


class ClientConnection(asyncssh.SSHClientConnection):
    """asyncssh's connection, which shows the client also a host key that asyncssh itself refuses.

    Attributes:
        heard_at: when anything came from the node, by the monotonic clock.
    """

    heard_at = 0.0

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data, datatype)

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        client = self.get_owner()
        if isinstance(client, HandshakeClient):
            client.seen.shown_key = key_data
        return super().validate_server_host_key(key_data)


async def cut(ssh: asyncssh.SSHClientConnection) -> None:
    ssh.abort()
    await finish(ssh.wait_closed(), CLOSE_S)
