"""srun as a program of this machine: where we run inside the job, or on the login node itself."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from typing import cast

from asyncdeploy.connect.srun.line import local_words
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Exit, Tunnel
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.errors import Abandoned, ConnectError, ConnectionLost, DeployError

UNREAD_BYTES = 1 << 20
"""What waits for our reader, of each stream; above it the step is held back, of stderr the oldest part is dropped."""
UNSENT_BYTES = 1 << 20
"""What waits for srun to take it before ``drain`` waits."""
END_S = 1.0
"""For a step to end once its input has; then our srun is killed. A step that wants to live goes on without it."""
UNKNOWN = "what became of it is not known; what must outlive a connection is started as a job (start_all, fan_out)"


class HereConnection:
    """A Connection to a node of a Slurm job: each channel is an srun of our own."""

    def __init__(self, node: Node) -> None:
        self.alive = True
        self._node = node
        self._channels: set[HereChannel] = set()

    async def open(self, line: str) -> HereChannel:
        """Run ``line`` in a step of the job and return its channel.

        Raises:
            ConnectError: there is no srun here.
        """
        if not self.alive:
            raise ConnectionLost(self._node.name, "the connection is dead")
        loop, pipe = asyncio.get_running_loop(), asyncio.subprocess.PIPE
        try:
            _, channel = await loop.subprocess_exec(
                lambda: HereChannel(self._node, self._channels),
                *local_words(self._node, line),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,  # a ^C at our terminal is ours
            )
        except OSError as error:
            raise ConnectError(self._node.name, f"srun cannot be run here: {error}", reason="local") from error
        return channel

    async def tunnel(self, host: str, port: int) -> Tunnel:
        """Refuse: srun carries lines."""
        raise no_tunnel(self._node, port)

    def owes_s(self) -> float:
        """Return 0: srun says itself what is wrong."""
        return 0.0

    async def close(self, farewell: str = "") -> None:
        """End all channels; bounded."""
        self.alive = False
        for channel in self._channels:
            channel.farewell = farewell
        await asyncio.gather(*(channel.close() for channel in [*self._channels]))


class HereChannel(asyncio.SubprocessProtocol):
    """A Channel over an srun of our own.

    Attributes:
        farewell: why all channels of the connection end.
    """

    def __init__(self, node: Node, channels: set[HereChannel]) -> None:
        self.reused = False
        self.notes: dict[str, object] = {}
        self.farewell = ""
        self._node = node
        self._channels = channels
        self._stdout: deque[bytes] = deque()
        self._unread = 0
        self._stderr = bytearray()
        self._open = {1, 2}
        self._exit: Exit | None = None
        self._why_lost = ""
        self._paused = False
        self._can_write = True
        self._woken = asyncio.Event()
        self._heard_at = time.monotonic()

    # -- what asyncio tells us --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Srun runs."""
        self._process = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._process.get_pipe_transport(0))
        self._stdin.set_write_buffer_limits(UNSENT_BYTES, UNSENT_BYTES // 4)
        self._channels.add(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Bytes came: keep them, and hold srun back when too many are unread."""
        self._heard_at = time.monotonic()
        if fd == 1:
            self._stdout.append(data)
            self._unread += len(data)
            if self._unread > UNREAD_BYTES and not self._paused:
                self._paused = True
                self._reading().pause_reading()
        else:
            self._stderr += data
            del self._stderr[: max(0, len(self._stderr) - UNREAD_BYTES)]
        self._wake()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A stream is at its end."""
        self._open.discard(fd)
        self._can_write = self._can_write or fd == 0
        self._wake()

    def process_exited(self) -> None:
        """Srun has ended, and with it the line."""
        code = self._process.get_returncode()
        if code is not None:
            self._exit = Exit(code) if code >= 0 else Exit(None, signal.Signals(-code).name.removeprefix("SIG"))
        self._wake()

    def pause_writing(self) -> None:
        """Much waits for srun."""
        self._can_write = False

    def resume_writing(self) -> None:
        """Srun took what waited."""
        self._can_write = True
        self._wake()

    # -- the Channel ------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once the line can say nothing more."""
        return 1 not in self._open or self._exit is not None or self._stdin.is_closing()

    def send(self, data: bytes) -> None:
        """Queue bytes for the line's stdin; what it does not take any more is dropped."""
        if data and not self._stdin.is_closing():
            self._stdin.write(data)

    async def drain(self) -> None:
        """Wait until the queue towards srun is short."""
        while not self._can_write and self._exit is None:
            await self._change()
        self._check()

    def send_eof(self) -> None:
        """End the line's stdin."""
        self._stdin.close()

    def rate(self) -> float:
        """Return 0: unknown."""
        return 0.0

    async def read(self, limit: int = 262144) -> bytes:
        """Return up to ``limit`` bytes of stdout, b"" at its end."""
        while not self._stdout:
            self._check()
            if 1 not in self._open:
                return b""
            await self._change()
        data = self._stdout.popleft()
        if len(data) > limit:
            self._stdout.appendleft(data[limit:])
            data = data[:limit]
        self._unread -= len(data)
        if self._paused and self._unread <= UNREAD_BYTES // 2:
            self._paused = False
            self._heard_at = time.monotonic()
            self._reading().resume_reading()
        return data

    async def read_stderr(self, limit: int = 262144) -> bytes:
        """Return up to ``limit`` bytes of stderr, b"" at its end."""
        while not self._stderr:
            self._check()
            if 2 not in self._open:
                return b""
            await self._change()
        data = bytes(self._stderr[:limit])
        del self._stderr[:limit]
        return data

    def quiet_s(self) -> float:
        """Return for how long nothing has come, 0 while we hold srun back."""
        return 0.0 if self._paused else time.monotonic() - self._heard_at

    def break_off(self, why: str) -> None:
        """Give the line up as lost."""
        if not self._why_lost:
            self._why_lost = why
            self._process.close()  # kills srun, which takes the line's input away
            self._wake()

    async def wait(self) -> Exit:
        """Return how the line ended, as srun says it."""
        while self._exit is None:
            self._check()
            await self._change()
        return self._exit

    async def close(self) -> None:
        """End the line's input and our srun; bounded, whatever cancels us; may be called again."""
        if self not in self._channels:
            return
        self._channels.discard(self)
        self._stdin.close()
        try:
            if self._exit is None:
                await finish(self._ends(), END_S)
        finally:
            self._process.close()
            self._why_lost = self._why_lost or "the channel was closed"
            self._wake()

    async def _ends(self) -> None:
        while self._exit is None:
            await self._change()

    def _reading(self) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, self._process.get_pipe_transport(1))

    def _check(self) -> None:
        if self._why_lost:
            raise self._gone()

    def _gone(self) -> DeployError:
        if self.farewell:
            hint = "what runs attached is ended by its leash; that was not waited for"
            return Abandoned(self._node.name, f"{self.farewell} while a line ran there", hint)
        return ConnectionLost(self._node.name, self._why_lost, UNKNOWN)

    def _wake(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()

    async def _change(self) -> None:
        await self._woken.wait()


def no_tunnel(node: Node, port: int) -> ConnectError:
    """Return why no port of a node is reached through srun."""
    hint = f"`ssh -L {port}:{node.host}:{port}` to the login node does it for what does not listen at 127.0.0.1 alone"
    return ConnectError(node.name, "srun carries lines and no ports", hint, reason="config")
