"""What a client of LocalCluster's sshd may do: Login, one connection; Session, a channel joined to a real command."""

from __future__ import annotations

import signal

import asyncssh

from asyncdeploy.local.command import LocalProcess, Start
from asyncdeploy.local.host import Host


class Login(asyncssh.SSHServer):
    """One connection to a node: who may log in and how much it may open."""

    def __init__(self, host: Host, client_key: asyncssh.SSHKey) -> None:
        self.host = host
        self._client_key = client_key
        self.open_sessions = 0
        self.connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self.host.terms.user and key == self._client_key

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        if not self.host.terms.forwarding:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
        return True

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        if self.open_sessions >= self.host.terms.max_sessions:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        self.open_sessions += 1
        return Session(self)


class Session(asyncssh.SSHServerSession[bytes]):
    """One session of a connection: joins a channel and a command."""

    def __init__(self, login: Login) -> None:
        self._login = login
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
        self._login.open_sessions -= 1
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
        host, connection = self._login.host, self._login.connection
        if connection is None:
            return False
        ends = [connection.get_extra_info(name)[:2] for name in ("peername", "sockname")]
        start = Start((host.terms.shell, *words), host.environ(*ends), host.home)
        self._process = LocalProcess(start, self, host.leaders)
        host.start(self._process)
        return True


def _signal_name(number: int) -> str:
    """A signal as SSH writes it: without SIG; one that has no name (real-time) by its number."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
