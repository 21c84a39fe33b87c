"""Programs on this machine that end with the call which started them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import attrs

from asyncdeploy.tasks.finish import finish, outlast
from asyncdeploy.tasks.threads import is_stopped

LOOK_S = 0.1
"""How soon a program that runs in a thread is ended when nobody wants it any more."""
CLOSE_S = 0.5
"""What a program printed before its end is read by then; longer only what it left running holds its output open."""
MAX_PRINTED = 16 << 20
"""Bytes: `ssh -G` prints some kilobytes; a program that never stops is killed before it fills the memory."""
KILL_S = 2.0
"""What KILL has not ended by then hangs in the kernel, and is left."""


@attrs.frozen
class Ended:
    """How a program ended and what it printed; a signal that ended it is its number, negative."""

    status: int
    stdout: bytes
    stderr: bytes


async def run_program(words: Sequence[str], *, within_s: float, env: Mapping[str, str] | None = None) -> Ended:
    """Run a program without input.

    Args:
        words: the program and its arguments.
        within_s: then it is killed.
        env: its whole environment; None is ours.

    Raises:
        TimeoutError: it was not done by then.
        OSError: it cannot be run.

    On cancellation it is killed, with what it started. What it leaves running when it ends by itself is left alone.
    """
    loop, pipe = asyncio.get_running_loop(), asyncio.subprocess.PIPE
    starting = loop.create_task(
        loop.subprocess_exec(
            _Printed,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env=env,
            start_new_session=True,
        )
    )
    cancelled = await outlast(starting, within_s)
    transport, printed = starting.result()
    try:
        if cancelled is not None:
            raise cancelled
        async with asyncio.timeout(within_s):
            await printed.ended.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await printed.closed.wait()
    finally:
        if transport.get_returncode() is None:
            _kill(transport.get_pid())
            await finish(printed.ended.wait(), KILL_S)
        transport.close()
    status = transport.get_returncode()
    assert status is not None
    return Ended(status, bytes(printed.parts[1]), bytes(printed.parts[2]))


class _Printed(asyncio.SubprocessProtocol):
    """What a program prints, up to a bound, and its end."""

    def __init__(self) -> None:
        self.parts = {1: bytearray(), 2: bytearray()}
        self.ended, self.closed = asyncio.Event(), asyncio.Event()
        self._open = set(self.parts)
        self._pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pid = cast(asyncio.SubprocessTransport, transport).get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.parts[fd] += data[: MAX_PRINTED - len(self.parts[fd])]
        if len(self.parts[fd]) == MAX_PRINTED and not self.ended.is_set():
            _kill(self._pid)

    def pipe_connection_lost(self, fd: int, _error: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open:
            self.closed.set()

    def process_exited(self) -> None:
        self.ended.set()


def _kill(leader: int) -> None:
    """Kill a program that leads a session of its own, with what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def run_blocking(
    words: Sequence[str],
    *,
    within_s: float,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdout: BinaryIO | None = None,
) -> Ended:
    """Run a program from a thread, and kill it when ``run_in_thread`` is cancelled there.

    Args:
        words: the program and its arguments.
        within_s: then it is killed.
        stdin: what it reads.
        env: its whole environment; None is ours.
        folder: where it starts; None is where we are.
        stdout: a file that takes what it prints; None keeps it in memory.

    Raises:
        TimeoutError: it was not done by then, or nobody wants it any more.
        OSError: it cannot be run.
    """
    pipe, until = subprocess.PIPE, time.monotonic() + within_s
    with subprocess.Popen(words, stdin=pipe, stdout=stdout or pipe, stderr=pipe, env=env, cwd=folder) as process:
        data: bytes | None = stdin
        while True:
            try:
                printed, errors = process.communicate(data, timeout=LOOK_S)
            except subprocess.TimeoutExpired:
                data = None  # it was taken at the first call
                if time.monotonic() > until or is_stopped():
                    process.kill()
                    raise TimeoutError(f"{os.path.basename(words[0])} was not done in time") from None  # noqa: PTH119
            else:
                return Ended(process.returncode, printed or b"", errors)
