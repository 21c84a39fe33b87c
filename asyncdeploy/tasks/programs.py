"""Programs on this machine that end with the call which started them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from asyncdeploy.tasks.finish import finish, outlast
from asyncdeploy.tasks.threads import is_stopped

LOOK_S = 0.1
"""How soon a program that runs in a thread is ended when nobody wants it any more."""
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

    On cancellation it is killed.
    """
    nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    starting = asyncio.get_running_loop().create_task(
        asyncio.create_subprocess_exec(*words, stdin=nothing, stdout=pipe, stderr=pipe, env=env)
    )
    cancelled = await outlast(starting, within_s)
    process = starting.result()
    try:
        if cancelled is not None:
            raise cancelled
        async with asyncio.timeout(within_s):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await finish(process.wait(), KILL_S)
    assert process.returncode is not None
    return Ended(process.returncode, stdout, stderr)


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
