"""One line running on a node, over asyncssh: bytes kept within bounds, and an end that is told truthfully.

It is a session with callbacks, not asyncssh's process object: no task a channel, no text, memory that does not grow.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import anyio
import asyncssh

from asyncdeploy.connect.ssh.handshake.watched import WatchedConnection
from asyncdeploy.connect.ssh.wire import SessionWire
from asyncdeploy.remote.transport import ChannelRefused, Exit
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.errors import Abandoned, ConnectionLost, DeployError
from asyncdeploy.values.words import one_line

UNREAD_BYTES = 1 << 20
"""What waits for our reader, of each stream; above it the node is held back."""
WINDOW = 2 << 20
"""What the node may send unasked: a full link of 100 ms at 160 Mbit/s; with UNREAD_BYTES, all a slow reader costs."""
PACKET = 64 << 10
"""Two of OpenSSH's reads in one packet."""
LARGE_CHUNK = 16 << 10
"""What came in such pieces is handed on as it is; smaller ones together, as waking the reader costs more."""
UNSENT_BYTES = 1 << 20
"""What waits for the node's window before ``drain`` waits; 1 MiB writes are twice as fast as small ones."""
CLOSE_S = 3.0
"""How long the node may take to confirm that a channel is closed."""
OPEN_S = 30.0
"""How long sshd may take to start a login shell: a session of a loaded machine takes seconds."""
UNKNOWN = "what became of it is not known; what must outlive a connection is started as a job (start_all, fan_out)"

_STDERR = asyncssh.EXTENDED_DATA_STDERR
_REFUSALS = frozenset(
    {asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asyncssh.OPEN_CONNECT_FAILED, asyncssh.OPEN_RESOURCE_SHORTAGE}
)


class SshChannel(asyncssh.SSHClientSession[bytes]):
    """A Channel over one SSH session."""

    def __init__(self, node: str, ssh: WatchedConnection) -> None:
        self.reused = False
        self.notes: dict[str, object] = {}
        self._node = node
        self._ssh = ssh
        self._why: Exception | None = None  # it broke
        self._stdout: deque[bytes] = deque()  # as it came: a megabyte a millisecond is not copied more than once
        self._unread = 0
        self._stderr = bytearray()
        self._stderr_dropped = 0
        self._eof = False
        self._over = False  # no byte can come any more
        self._lost = False  # ... because the connection broke
        self._exit: Exit | None = None
        self._paused = False
        self._can_write = True
        self._woken: list[asyncio.Future[None]] = []
        self._heard_at = time.monotonic()
        self._why_lost = "the connection broke while a line ran there"

    # -- what asyncssh tells us -----------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The node granted the session."""
        assert isinstance(chan, SessionWire)
        self._wire = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came: keep them, and hold the node back when too many are unread."""
        self._heard_at = time.monotonic()
        if datatype == _STDERR:
            self._stderr += data
            # Both streams share one window, so stderr must not stop stdout: unread, it loses its oldest part.
            if len(self._stderr) > UNREAD_BYTES:
                surplus = len(self._stderr) - UNREAD_BYTES
                del self._stderr[:surplus]
                self._stderr_dropped += surplus
        else:
            self._stdout.append(data)
            self._unread += len(data)
            if self._unread > UNREAD_BYTES and not self._paused:
                self._paused = True
                self._wire.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The node sends no more; our direction stays open."""
        self._eof = True
        self._wake()
        return True

    def exit_status_received(self, status: int) -> None:
        """The line ended by itself."""
        self._exit = Exit(status)
        self._wake()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """A signal ended it."""
        self._exit = Exit(None, signal)
        self._wake()

    def pause_writing(self) -> None:
        """The node's window is full."""
        self._can_write = False

    def resume_writing(self) -> None:
        """The node took what waited."""
        self._can_write = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone: closed by the node, by us, or with its connection."""
        self._over = True
        self._lost = exc is not None or self._wire.cut_off
        self._why = exc
        self._can_write = True
        self._wake()

    # -- the Channel ------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the line can say nothing more; such a channel is not handed out again."""
        return self._over or self._eof or self._exit is not None

    def send(self, data: bytes) -> None:
        """Queue bytes for the line's stdin; what a line that ended does not take is dropped, as by a closed pipe."""
        if data and not self._wire.is_closing():
            self._wire.write(data)

    async def drain(self) -> None:
        """Wait until the queue towards the node is short."""
        while not self._can_write and not self._over:
            await self._change()
        if self._lost:
            raise self._gone()

    def send_eof(self) -> None:
        """End the line's stdin."""
        self._wire.write_eof()

    def rate(self) -> float:
        """Return the bytes a second that TCP has seen the network carry; 0 where it does not tell, or not yet."""
        return self._wire.rate()

    async def read(self, limit: int = 262144) -> bytes:
        """Return up to ``limit`` bytes of stdout, b"" at its end."""
        while not self._stdout:
            if self._eof or self._at_end():
                return b""
            await self._change()
        data = self._next_bytes(limit)
        self._unread -= len(data)
        if self._paused and self._unread <= UNREAD_BYTES // 2:
            self._paused = False
            self._heard_at = time.monotonic()  # the silence before was ours
            self._wire.resume_reading()
        return data

    async def read_stderr(self, limit: int = 262144) -> bytes:
        """Return up to ``limit`` bytes of stderr, b"" at its end."""
        while not self._stderr:
            if self._eof or self._at_end():
                return b""
            await self._change()
        if self._stderr_dropped:
            note = b"[%d bytes of stderr came unread and were dropped]\n" % self._stderr_dropped
            self._stderr_dropped = 0
            self._stderr[:0] = note
        return _take(self._stderr, limit)

    def quiet_s(self) -> float:
        """Return for how long nothing has come, 0 while we hold the node back."""
        return 0.0 if self._paused else time.monotonic() - self._heard_at

    def break_off(self, why: str) -> None:
        """Give the line up as lost."""
        if not self._over:
            self._over = self._lost = True
            self._why_lost = why
            self._wire.abort()
            self._wake()

    async def wait(self) -> Exit:
        """Return how the line ended; ``Exit()`` if the node closed it without a word."""
        while self._exit is None:
            if self._at_end():
                return Exit()
            await self._change()
        return self._exit

    async def close(self) -> None:
        """Close the channel; bounded, whatever cancels us; may be called again."""
        self._wire.abort()
        if not self._over:
            await finish(self._wire.wait_closed(), CLOSE_S)

    def _next_bytes(self, limit: int) -> bytes:
        first = self._stdout.popleft()
        if len(first) > limit:
            self._stdout.appendleft(first[limit:])
            return first[:limit]
        if len(first) >= LARGE_CHUNK or not self._stdout:
            return first
        some, size = [first], len(first)
        while self._stdout and size + len(self._stdout[0]) <= limit:
            some.append(self._stdout.popleft())
            size += len(some[-1])
        return b"".join(some)

    def _at_end(self) -> bool:
        if self._lost:
            raise self._gone()
        return self._over

    def _gone(self) -> DeployError:
        if self._ssh.farewell:
            hint = "what runs attached is ended by its leash; that was not waited for"
            return Abandoned(self._node, f"{self._ssh.farewell} while a line ran there", hint)
        message = self._why_lost
        if self._why is not None and not isinstance(self._why, asyncssh.ConnectionLost | OSError):
            message += f": {one_line(str(self._why))}"
        return ConnectionLost(self._node, message, UNKNOWN)

    def _wake(self) -> None:
        if self._woken:
            for waiter in self._woken:
                if not waiter.done():
                    waiter.set_result(None)
            self._woken.clear()

    async def _change(self) -> None:
        """Wait until anything happens to this channel."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._woken.append(waiter)
        await waiter


def _take(buffer: bytearray, limit: int) -> bytes:
    with memoryview(buffer) as view:
        data = bytes(view[:limit])
    del buffer[:limit]
    return data


async def open_channel(connection: WatchedConnection, node: str, line: str) -> SshChannel:
    """Run a line over a connection.

    Raises:
        ChannelRefused: the node has no session free.
        ConnectionLost: the connection is dead, or sshd does not answer.
    """
    loop = asyncio.get_running_loop()
    session = SshChannel(node, connection)
    if connection.is_closed():
        raise ConnectionLost(node, "the connection is dead")
    try:
        wire = SessionWire(connection, loop, "replace", None, "strict", WINDOW, PACKET)
        wire.set_write_buffer_limits(UNSENT_BYTES, UNSENT_BYTES // 4)
        try:
            with anyio.fail_after(OPEN_S):
                await wire.create(lambda: session, line, None, {}, False, "", None, {}, False, None, None, False, False)
        except BaseException:
            wire.abandon()
            raise
    except asyncssh.ChannelOpenError as error:
        if error.code in _REFUSALS and not connection.is_closed():
            raise ChannelRefused(error.reason) from error
        raise ConnectionLost(node, f"no channel could be opened: {one_line(error.reason)}") from error
    except TimeoutError:
        raise ConnectionLost(node, f"sshd did not open a channel within {OPEN_S:.0f} s") from None
    except Exception as error:  # whatever the node sent: what does not make sense to asyncssh comes out as anything
        what = f"the connection broke while a channel was opened: {one_line(str(error))}"
        raise ConnectionLost(node, what) from error
    return session
