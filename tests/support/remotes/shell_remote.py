"""A Remote over local `sh -c` processes: verbs meet the real programs, with no SSH between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Self

import anyio

from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Exit
from asyncdeploy.values.errors import ConnectionLost
from asyncdeploy.values.events import Event
from tests.support.stages import open_stages


class ShellChannel:
    """One line run by a local shell."""

    def __init__(self, process: asyncio.subprocess.Process, node: Node) -> None:
        self.process = process
        self.node = node
        self.reused = False
        self.notes: dict[str, object] = {}
        self.closed = False
        self.heard_at = time.monotonic()
        self.lost = ""

    def send(self, data: bytes) -> None:
        if not self.process.stdin.is_closing():
            self.process.stdin.write(data)

    async def drain(self) -> None:
        try:
            await self.process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise ConnectionLost(self.node.name, "the line broke") from None

    def send_eof(self) -> None:
        self.process.stdin.close()

    def rate(self) -> float:
        return 0.0

    def quiet_s(self) -> float:
        return time.monotonic() - self.heard_at

    def break_off(self, why: str) -> None:
        self.lost = why
        self.process.kill()

    async def read(self, limit: int = 262144) -> bytes:
        data = await self.process.stdout.read(limit)
        self.heard_at = time.monotonic()
        if self.lost:
            raise ConnectionLost(self.node.name, self.lost)
        return data

    async def read_stderr(self, limit: int = 262144) -> bytes:
        return await self.process.stderr.read(limit)

    async def wait(self) -> Exit:
        code = await self.process.wait()
        return Exit(code) if code >= 0 else Exit(None, signal.Signals(-code).name.removeprefix("SIG"))

    async def close(self) -> None:
        """End the line's input, as a closed SSH channel does, and wait until the process is gone."""
        if self.closed:
            return
        self.closed = True
        with anyio.CancelScope(shield=True):
            self.process.stdin.close()
            self.process._transport.get_pipe_transport(1).close()
            with anyio.move_on_after(10) as scope:
                await self.process.wait()
            if scope.cancelled_caught:
                self.process.kill()
                await self.process.wait()
            self.process._transport.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await self.process.stdin.wait_closed()


class ShellRemote:
    """A node that is a folder on this machine.

    Attributes:
        opens: how many channels were opened.
        events: what was emitted.
    """

    def __init__(
        self, home: Path, *, python: bool = True, shell: tuple[str, ...] = ("sh", "-c"), name: str = "here"
    ) -> None:
        self.home = home
        self.node = Node("127.0.0.1", name=name)
        self.memory: dict[str, object] = {}
        self.observed = True
        self.events: list[Event] = []
        self.opens = 0
        self.python = python
        self.shell = shell
        self.env = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "USER": "root"}
        self.idle: list[tuple[str, ShellChannel]] = []
        self.channels: list[ShellChannel] = []

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        for position, (its_kind, channel) in enumerate(self.idle):
            if its_kind == kind and channel.process.returncode is None:
                del self.idle[position]
                channel.reused = True
                return channel
        if not self.python:
            line = line.replace("python3", "no-python3-here")
        self.opens += 1
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.shell,
            line,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=self.home,
            env=self.env,
            limit=1 << 20,
            start_new_session=True,
        )
        channel = ShellChannel(process, self.node)
        self.channels.append(channel)
        return channel

    async def open_spare(self, line: str) -> ShellChannel | None:
        return None  # whoever counts our channels does not want more

    def give_back(self, channel: ShellChannel, kind: str) -> None:
        self.idle.append((kind, channel))

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def close(self) -> None:
        """End every channel."""
        for channel in self.channels:
            await channel.close()
            if channel.process.returncode is None:  # whoever closed it had no more time to wait for its end
                channel.process.kill()
                await channel.process.wait()
                channel.process._transport.close()

    async def __aenter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
        left = open_stages(self.events)
        assert not left, f"stages without an end: {left}"


def busybox_shell() -> tuple[str, ...]:
    """Return the shell that runs a line by busybox ash."""
    path = shutil.which("busybox")
    assert path
    return (path, "ash", "-c")
