"""One node of a LocalCluster: an asyncssh server whose sessions run real commands."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import asyncssh
import attrs

from asyncdeploy.local.command import LocalProcess, Start
from asyncdeploy.local.faults import Faults, Gate
from asyncdeploy.local.processes import MARKER, end_processes

# All of leaving takes at most five seconds. KILL takes effect at once; what outlives this hangs in the kernel.
_KILL_S = 3.0


# What is only cleared away once nothing runs any more: our tasks, then our sockets.
_CLEAR_S = 1.0


@attrs.frozen
class Terms:
    """What is the same for all nodes of a cluster."""

    shell: str
    path: str
    max_sessions: int
    forwarding: bool
    user: str


@attrs.define(eq=False)
class Host:
    """One node: its server, its connections' gates and what runs on it."""

    name: str
    home: Path
    terms: Terms
    client_key: asyncssh.SSHKey
    mark: str = attrs.field(factory=lambda: secrets.token_hex(8))
    faults: Faults = attrs.field(factory=Faults)
    gates: set[Gate] = attrs.field(factory=set)
    leaders: dict[int, int | None] = attrs.field(factory=dict)
    public_key: str = ""
    port: int = 0
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)
    _acceptor: asyncssh.SSHAcceptor | None = None

    async def listen(self) -> None:
        """Start the server on a free port."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.public_key = key.export_public_key().decode().strip()
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            tunnel=cast(Any, self),  # whatever has a create_server; asyncssh's own type for it is private
            config=None,
            server_factory=lambda: _Server(self),
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
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Gate(accept("", 0), self.faults, self.gates), host, port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def change(self, *, frozen: bool | None = None, delay_s: float | None = None) -> None:
        """Change what is wrong with the node's line."""
        self.faults.frozen = self.faults.frozen if frozen is None else frozen
        self.faults.delay_s = self.faults.delay_s if delay_s is None else delay_s
        for gate in tuple(self.gates):
            gate.turn()

    def start(self, process: LocalProcess) -> None:
        """Run a command; the task lives as long as it does."""
        task = asyncio.get_running_loop().create_task(process.run(), name=f"a command on {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def environ(self, connection: asyncssh.SSHServerConnection) -> dict[str, str]:
        """What sshd would give a command, and the mark by which we find it again."""
        client, client_port = connection.get_extra_info("peername")[:2]
        server, server_port = connection.get_extra_info("sockname")[:2]
        return {
            "HOME": str(self.home),
            "USER": self.terms.user,
            "LOGNAME": self.terms.user,
            "SHELL": self.terms.shell,
            "PATH": self.terms.path,
            "SSH_CLIENT": f"{client} {client_port} {server_port}",
            "SSH_CONNECTION": f"{client} {client_port} {server} {server_port}",
            MARKER: self.mark,
        }

    async def close(self) -> dict[int, str]:
        """Stop listening, cut all connections, end all that runs; return what could not be ended."""
        if self._acceptor is not None:
            self._acceptor.close()
        for gate in tuple(self.gates):
            gate.abort()
        left = await end_processes(self.mark, self.leaders, within_s=_KILL_S)
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks), timeout=_CLEAR_S)
            for task in late:
                task.cancel()
        if self._acceptor is not None:
            with anyio.move_on_after(_CLEAR_S):
                await self._acceptor.wait_closed()
        return left


class _Server(asyncssh.SSHServer):
    """One connection to a node: who may log in and how much it may open."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.open_sessions = 0
        self.connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self.host.terms.user and key == self.host.client_key

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        if not self.host.terms.forwarding:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
        return True

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        if self.open_sessions >= self.host.terms.max_sessions:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        self.open_sessions += 1
        return _Session(self)


class _Session(asyncssh.SSHServerSession[bytes]):
    """One session of a connection: joins a channel and a command."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._process: LocalProcess | None = None
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None

    # -- what the client asks for ------------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def shell_requested(self) -> bool:
        return self._run(())

    def exec_requested(self, command: str) -> bool:
        return self._run(("-c", command))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self._process is not None:
            self._process.feed(data)

    def eof_received(self) -> bool:
        if self._process is not None:
            self._process.feed_eof()
        return True  # output may still come

    def pause_writing(self) -> None:
        if self._process is not None:
            self._process.pause()

    def resume_writing(self) -> None:
        if self._process is not None:
            self._process.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open_sessions -= 1
        self._channel = None
        if self._process is not None:
            self._process.hang_up()

    # -- what the command does ---------------------------------------------------------------------------------------

    def output(self, fd: int, data: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data, asyncssh.EXTENDED_DATA_STDERR if fd == 2 else None)

    def pause_input(self) -> None:
        if self._channel is not None:
            self._channel.pause_reading()

    def resume_input(self) -> None:
        if self._channel is not None:
            self._channel.resume_reading()

    def ended(self, status: int) -> None:
        if self._channel is None:
            return
        if status < 0:
            self._channel.exit_with_signal(_signal_name(-status))
        else:
            self._channel.exit(status)

    def _run(self, words: tuple[str, ...]) -> bool:
        host, connection = self._server.host, self._server.connection
        if connection is None:
            return False
        start = Start((host.terms.shell, *words), host.environ(connection), host.home)
        self._process = LocalProcess(start, self, host.leaders)
        host.start(self._process)
        return True


def _signal_name(number: int) -> str:
    """A signal as SSH writes it: without SIG; one that has no name (real-time) by its number."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
