"""LocalCluster: SSH nodes inside this process, for demos and for tests of what is built on asyncdeploy.

Each node is an asyncssh server on loopback with its own keys, home and login shell; commands are real processes. It is
as hostile as a rented box: no env requests, no signals, no pty, no SFTP, ten sessions a connection, and a command
outlives the connection that started it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh

from asyncdeploy.connect.limits import Limits
from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.local.host import Host, Terms
from asyncdeploy.local.processes import find_processes
from asyncdeploy.local.server import Server
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connector
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.account import user_name
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.events import Observer

# What sshd gives a login that reads no profile.
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@checked_class
class LocalCluster:
    """N SSH nodes inside this process, on loopback: ``async with LocalCluster(4) as cluster``.

    Args:
        count: how many nodes.
        shell: the login shell, an absolute path; commands run as ``shell -c line``.
        path: PATH of what runs there.
        max_sessions: sessions that one connection may have open.
        forwarding: whether connections may be forwarded through a node (jump hosts).

    Attributes:
        nodes: the nodes, named local-0, local-1, ...
        folder: a temporary folder with keys and homes, removed at the end.
        known_hosts: a file with the nodes' host keys.

    Leaving the block cuts all connections, ends every process that was started on the nodes and waits for their end,
    within five seconds also when it is cancelled.

    Raises:
        ValueError: a count or a limit below 1.
        RuntimeError: when leaving, if a process cannot be ended.
    """

    def __init__(
        self,
        count: int,
        *,
        shell: str = "/bin/sh",
        path: str = DEFAULT_PATH,
        max_sessions: int = 10,
        forwarding: bool = False,
    ) -> None:
        if count < 1:
            raise ValueError(f"LocalCluster count: at least 1 was expected, got {count!r}")
        if max_sessions < 1:
            raise ValueError(f"LocalCluster max_sessions: at least 1 was expected, got {max_sessions!r}")
        self._count = count
        self._terms = Terms(shell, path, max_sessions, forwarding, user_name() or str(os.getuid()))
        self._servers: dict[str, Server] = {}
        self.nodes: tuple[Node, ...] = ()
        self.folder = Path()
        self.known_hosts = Path()

    async def __aenter__(self) -> Self:
        self.folder = _make_folder()
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def pool(
        self,
        *,
        host_keys: HostKeys | None = None,
        limits: Limits | None = None,
        observer: Observer | None = None,
        connector: Connector | None = None,
    ) -> Pool:
        """Return ``Pool(...)``, trusting the cluster's host keys and no others; close it before the cluster."""
        host_keys = host_keys or HostKeys.strict(self.known_hosts)
        return Pool(host_keys=host_keys, limits=limits, observer=observer, connector=connector)

    def home(self, node: Node) -> Path:
        """Return the folder that is the node's home."""
        return self._host(node).home

    def processes(self, node: Node) -> dict[int, str]:
        """Return what runs on the node: command lines by pid; on Linux only, elsewhere always empty."""
        host = self._host(node)
        return find_processes(host.mark, host.leaders)

    def drop(self, node: Node) -> None:
        """Cut all of the node's connections without a word; what runs there lives on, and new ones are let in."""
        for gate in tuple(self._host(node).gates):
            gate.abort()

    def freeze(self, node: Node) -> None:
        """Let the node fall silent: connections stay, and new ones are accepted, but nothing goes in or out."""
        self._host(node).change(frozen=True)

    def thaw(self, node: Node) -> None:
        """Let a frozen node go on where it stopped."""
        self._host(node).change(frozen=False)

    def delay(self, node: Node, seconds: float) -> None:
        """Make everything to and from the node take this much longer each way; 0 ends it."""
        if seconds < 0:
            raise ValueError(f"LocalCluster delay: 0 or more seconds were expected, got {seconds!r}")
        self._host(node).change(delay_s=seconds)

    def _host(self, node: Node) -> Host:
        try:
            return self._servers[str(node.name)].host
        except KeyError:
            raise ValueError(f"LocalCluster: one of {', '.join(self._servers)} was expected, got {node.name}") from None

    async def _start(self) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        key_path = self.folder / "id_ed25519"
        key_path.touch(mode=0o600)
        key_path.write_bytes(key.export_private_key())
        known_hosts = ""
        for number in range(self._count):
            name = f"local-{number}"
            home = self.folder / name
            home.mkdir(mode=0o700)
            server = self._servers[name] = Server(Host(name, home, self._terms), key.convert_to_public())
            await server.listen()
            node = Node("127.0.0.1", port=server.port, user=self._terms.user, name=name, key_path=str(key_path))
            self.nodes += (node,)
            known_hosts += f"[127.0.0.1]:{server.port},{name} {server.public_key}\n"
        self.known_hosts = self.folder / "known_hosts"
        self.known_hosts.write_text(known_hosts)

    async def _close(self) -> None:
        left = await finish(self._end_all(), BACK_S)
        if left:
            raise RuntimeError(f"LocalCluster: all that ran was to end, still there by pid: {left}")

    async def _end_all(self) -> dict[int, str]:
        left: dict[int, str] = {}
        for still in await asyncio.gather(*(server.close() for server in self._servers.values())):
            left |= still
        await run_in_thread(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        return left


def _make_folder() -> Path:
    """A folder of our own; without links in its name, so that a node's paths compare equal inside and outside."""
    return Path(tempfile.mkdtemp(prefix="asyncdeploy-local-")).resolve()
