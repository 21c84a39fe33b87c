"""A command on a node of LocalCluster: start it and pump its three streams.

It behaves as under sshd without a pty: a session of its own, plain pipes, and a hang-up that only closes them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs

from asyncdeploy.local.processes import start_time

# What a shell says when it cannot start a program.
_CANNOT_START = 127


class Sink(Protocol):
    """Where a command's output goes and who sends its input."""

    def output(self, fd: int, data: bytes) -> None:
        """Take bytes of stdout (1) or stderr (2)."""

    def pause_input(self) -> None:
        """Send no more: the command does not read."""

    def resume_input(self) -> None:
        """The command reads again."""

    def ended(self, status: int) -> None:
        """The command is over and all of its output was passed on; a negative status is the signal that killed it."""


@attrs.frozen
class Start:
    """How to start a command."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


class LocalProcess:
    """One running command; ``run`` starts it and lasts as long as it does, the other methods are called meanwhile.

    Args:
        start: what to run.
        sink: who takes its output.
        leaders: the sessions of the node, to which this one is added: start times by leading pid.
    """

    def __init__(self, start: Start, sink: Sink, leaders: dict[int, int | None]) -> None:
        self._start = start
        self._sink = sink
        self._leaders = leaders
        self._input: asyncio.WriteTransport | None = None
        self._outputs: dict[int, asyncio.ReadTransport] = {}
        self._early = bytearray()  # input that came before the process was there; the sink is paused meanwhile
        self._input_ended = False
        self._open_outputs = 2
        self._paused = False
        self._hung_up = False
        self._drained = asyncio.Event()  # set when no output is left to pass on

    async def run(self) -> None:
        """Run the command to its end, then tell the sink unless it has hung up."""
        ours, its = _make_pipes()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._start.argv,
                stdin=its[0],
                stdout=its[1],
                stderr=its[2],
                cwd=self._start.cwd,
                env=dict(self._start.env),
                start_new_session=True,
            )
        except BaseException as error:
            _close_all(ours)
            if not isinstance(error, OSError):
                raise
            self._sink.output(2, f"{self._start.argv[0]}: {error.strerror}\n".encode())
            self._sink.ended(_CANNOT_START)
            return
        finally:
            _close_all(its)
        self._leaders[process.pid] = start_time(process.pid)
        try:
            await self._connect(*ours)
            status = await process.wait()
            await self._drained.wait()
            if not self._hung_up:
                self._sink.ended(status)
        finally:
            self.hang_up()

    def feed(self, data: bytes) -> None:
        """Pass bytes to the command's stdin; what it does not want any more is dropped, as the kernel would."""
        if self._input is not None:
            self._input.write(data)
        elif not self._input_ended:
            self._early += data
            self._sink.pause_input()

    def feed_eof(self) -> None:
        """End the command's stdin once all of it is written."""
        self._input_ended = True
        if self._input is not None:
            self._input.close()

    def pause(self) -> None:
        """Stop reading the command's output: whoever takes it is slow."""
        self._paused = True
        for transport in self._outputs.values():
            transport.pause_reading()

    def resume(self) -> None:
        """Read the command's output again."""
        self._paused = False
        for transport in self._outputs.values():
            transport.resume_reading()

    def hang_up(self) -> None:
        """Close the command's streams and pass nothing on any more; the command itself lives on."""
        self._hung_up = True
        self._drained.set()
        # A pipe that is closing and has nothing left to write cannot be aborted as well.
        if self._input is not None and not (self._input.is_closing() and not self._input.get_write_buffer_size()):
            self._input.abort()
        for transport in tuple(self._outputs.values()):
            transport.close()

    async def _connect(self, in_write: int, out_read: int, err_read: int) -> None:
        loop = asyncio.get_running_loop()
        writing, _ = await loop.connect_write_pipe(lambda: _Input(self), os.fdopen(in_write, "wb", 0))
        self._open_input(writing)
        for fd, end in ((1, out_read), (2, err_read)):
            reading, _ = await loop.connect_read_pipe(partial(_Output, self, fd), os.fdopen(end, "rb", 0))
            self._open_output(fd, reading)

    def _open_input(self, transport: asyncio.WriteTransport) -> None:
        # Not before the transport is wholly set up: closed earlier, it would leave its descriptor in the selector.
        early, self._early = bytes(self._early), bytearray()
        if transport.is_closing():
            return
        self._input = transport
        if self._hung_up:
            transport.abort()
            return
        if early:
            transport.write(early)
        if self._input_ended:
            transport.close()
        self._sink.resume_input()

    def pause_input(self) -> None:
        """Have no more sent: the pipe is full."""
        self._sink.pause_input()

    def resume_input(self) -> None:
        """Have more sent."""
        self._sink.resume_input()

    def input_lost(self) -> None:
        """Note that the command wants no more: what still comes is dropped."""
        self._input = None
        self._input_ended = True
        self._sink.resume_input()

    def _open_output(self, fd: int, transport: asyncio.ReadTransport) -> None:
        # Not before the transport is wholly set up: closed earlier, it would fail there where asyncio is in debug mode.
        self._outputs[fd] = transport
        if self._hung_up:
            transport.close()
        elif self._paused:
            transport.pause_reading()

    def output_read(self, fd: int, data: bytes) -> None:
        """Pass output on."""
        if not self._hung_up:
            self._sink.output(fd, data)

    def output_ended(self, fd: int) -> None:
        """Note that nobody holds the other end of this pipe any more."""
        self._outputs.pop(fd, None)
        self._open_outputs -= 1
        if self._open_outputs == 0:
            self._drained.set()


class _Input(asyncio.BaseProtocol):
    """Our end of the command's stdin."""

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        self._full = False

    def pause_writing(self) -> None:
        self._full = True
        self._process.pause_input()

    def resume_writing(self) -> None:
        # Not in this call: asyncio's pipe loses what is written, and ends twice, when it is closed from in here.
        self._full = False
        asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if not self._full:
            self._process.resume_input()

    def connection_lost(self, exc: Exception | None) -> None:
        self._process.input_lost()


class _Output(asyncio.Protocol):
    """Our end of the command's stdout or stderr."""

    def __init__(self, process: LocalProcess, fd: int) -> None:
        self._process = process
        self._fd = fd

    def data_received(self, data: bytes) -> None:
        self._process.output_read(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._process.output_ended(self._fd)


def _make_pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Three pipes: our ends and the command's, each as stdin, stdout, stderr."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    return (in_write, out_read, err_read), (in_read, out_write, err_write)


def _close_all(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
