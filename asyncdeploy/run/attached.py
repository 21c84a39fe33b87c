"""Attached: run one command on a node; it dies with us. The leash itself is node_side/run/run.py."""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import time

import anyio
import attrs

from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call, call_program, has_python
from asyncdeploy.run.attached_sh import run_by_sh
from asyncdeploy.run.streams import Output, input_blocks
from asyncdeploy.values.command import Command, Completed, as_command
from asyncdeploy.values.errors import CommandFailed, CommandTimeout, DeployError, ProtocolError
from asyncdeploy.values.words import last_lines, one_line

GRACE_S = 2.0
"""TERM to KILL when we want an end: with the node's KILL wait and a round trip it stays below the 5 s that a cancelled
call may take.
"""
_END = re.compile(rb"(-?[0-9]{1,9})\0(-?[0-9]{1,3})(?:\0|\Z)")
SHOWN = 80
"""Bytes of what was not expected, in an error."""
END_S = 4.5
"""How long we wait for the node's word that a run was ended; then the channel is closed, and its leash acts."""


async def run_command(remote: Remote, command: Command | str, *, check: bool = False, source: str = "") -> Completed:
    """Run a command on a node and return what it left.

    Args:
        remote: the node.
        command: a Command, or a shell line.
        check: raise CommandFailed unless it ends with status 0.
        source: what its OutputLine events say they come from.

    Raises:
        CommandFailed: with ``check``; or it could not be started (its working folder is missing).
        CommandTimeout: it ran longer than its timeout_s and was ended.
        TransferFailed: its stdout_to or stderr_to cannot be written: before anything connects, or the run is ended.
        ConnectionLost: the connection broke: what became of it is unknown, its leash ends it.
        NoShell, ConnectError, AuthError, HostKeyError: it was never started.

    On cancellation the run is ended on the node (TERM, after 2 s KILL, to everything that it started) before this
    returns.
    """
    command = as_command(command)
    start = time.monotonic()
    with Output(remote, command, source) as output:
        if await has_python(remote):
            completed = await _run_leashed(remote, command, output)
        else:
            completed = await run_by_sh(remote, command, output)
    error = completed.failure() if check else None
    if error:
        raise error
    return _timed(completed, start)


def _timed(completed: Completed, start: float) -> Completed:
    return attrs.evolve(completed, duration_s=time.monotonic() - start)


async def _run_leashed(remote: Remote, command: Command, output: Output) -> Completed:
    async with call_program(remote, "run.run", _arguments(command)) as call:
        with anyio.move_on_after(command.timeout_s) as limit:
            try:
                await _send_input(call, command)
                return _completed(remote, command, output, await _pump(call, output))
            except anyio.get_cancelled_exc_class():
                if not limit.cancel_called:
                    await _stop(call, output)
                raise
            except DeployError:
                if not call.returned:
                    await _stop(call, output)
                raise
        ended = await _stop(call, output)
        raise _timeout(remote, command, output, ended=ended)


def _arguments(command: Command) -> bytes:
    env = {**dict(command.env), **command.secret_values()}
    fields = [secrets.token_hex(8), str(GRACE_S), command.cwd or "", command.on_end or "", command.line]
    fields += [f"{name}={value}" for name, value in env.items()]
    return "\0".join(fields).encode("utf-8", "surrogateescape")


async def _send_input(call: Call, command: Command) -> None:
    async with contextlib.aclosing(input_blocks(command.stdin)) as blocks:
        async for block in blocks:
            call.send(b"I", block)
            await call.drain()
    call.send(b"E")


async def _pump(call: Call, output: Output) -> bytes:
    """Take the output until the program answers, and return its answer."""
    while True:
        kind, payload = await call.receive()
        if kind == b"O":
            output.add("stdout", payload)
        elif kind == b"E":
            output.add("stderr", payload)
        elif kind == b"Z":
            return payload
        else:
            what = f"a run: its output or its end was expected, got a frame {kind!r}"
            raise ProtocolError(call.remote.node.name, what)


async def _stop(call: Call, output: Output) -> bool:
    """Ask the node to end the run; True if it said that nothing of it lives.

    Otherwise leaving the call closes the channel, and the leash acts.
    """
    with anyio.move_on_after(END_S, shield=True):
        try:
            call.send(b"E")
            call.send(b"K", str(GRACE_S).encode())
            return len((await _pump(call, output)).split(b"\0")) <= 2
        except DeployError:
            return False
    return False


def _completed(remote: Remote, command: Command, output: Output, answer: bytes) -> Completed:
    node = remote.node.name
    parts = answer.split(b"\0")
    if parts[0] == b"!":
        raise CommandFailed(
            node, f"could not be started: {last_lines(b' '.join(parts[1:]), 1)}: {command.line}", command=command.line
        )
    found = _END.match(answer)
    if found is None:
        what = f"the end of a run: an exit status and a signal's number were expected, got {answer[:SHOWN]!r}"
        raise ProtocolError(node, what)
    status, number = int(found[1]), int(found[2])
    name = signal.Signals(number).name.removeprefix("SIG") if number in {*signal.Signals} else f"{number}"
    return Completed(
        node,
        command.line,
        status if number == 0 else None,
        name if number > 0 else None,
        output.value("stdout"),
        output.value("stderr"),
        output.dropped,
        survivors=tuple(one_line(part) for part in parts[2:]),
    )


def _timeout(remote: Remote, command: Command, output: Output, *, ended: bool) -> CommandTimeout:
    limit = command.timeout_s or 0.0
    message = f"command ran longer than {limit:g} s and was ended: {command.line}"
    if not ended:
        message = f"command ran longer than {limit:g} s; the node did not confirm its end: {command.line}"
    evidence = last_lines(output.value("stderr") or output.value("stdout"))
    return CommandTimeout(remote.node.name, message, "", evidence, command.line, limit, ended)
