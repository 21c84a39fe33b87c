"""Attached: run one command on a node; it dies with us. The leash itself is node_side/run/run.py."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Sequence

import attrs

from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call, call_program
from asyncdeploy.run.attached_sh import run_by_sh
from asyncdeploy.run.leash import Run
from asyncdeploy.run.streams import Input, Output
from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.urgency import hurried_by_a_person
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, Completed, as_command
from asyncdeploy.values.errors import CommandFailed, DeployError, ProtocolError
from asyncdeploy.values.events import Noted
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines, one_line

GRACE_S = 2.0
"""TERM to KILL when we want an end: with the node's KILL wait and a round trip it stays below the 5 s that a cancelled
call may take.
"""
_SIGNALS = {each.value: each.name.removeprefix("SIG") for each in signal.Signals}
_END = regex(rb"(-?[0-9]{1,9})\0(-?[0-9]{1,3})(?:\0|\Z)")
SHOWN = 80
"""Bytes of what was not expected, in an error."""
END_S = 4.5
"""How long we wait for the node's word that a run was ended; then the channel is closed, and its leash acts."""


@checked
async def run_command(remote: Remote, command: Command | str, *, check: bool = False, source: str = "") -> Completed:
    """Run a command on a node and return what it left, however it ended: a non-zero status is no error here.

    Args:
        remote: the node.
        command: a Command, or a shell line. Its timeout_s is for the whole call, connecting included.
        check: raise CommandFailed unless it ends with status 0.
        source: what its OutputLine events say they come from.

    Raises:
        CommandFailed: with ``check``; or it could not be started (its working folder is missing).
        CommandTimeout: it was not done within its timeout_s, and was ended; its ``completed`` has what it printed.
        TransferFailed: its stdin cannot be read, or its stdout_to or stderr_to written: before anything connects, or
            the run is ended. Or its stdin changed while it was read: it was not started.
        ConnectionLost: the connection broke: what became of it is unknown, its leash ends it.
        NoShell, ConnectError, AuthError, HostKeyError: it was never started.

    On cancellation the run is ended on the node (TERM, after 2 s KILL, to everything that it started) before this
    returns; one whose input is still on its way is never started.
    """
    command, start = as_command(command), time.monotonic()
    with Input(remote.node.name, command.stdin) as stdin, Output(remote, command, source) as output:
        run = Run(remote, command, stdin, output)
        try:
            async with asyncio.timeout(command.timeout_s) as limit:
                run.completed = await (_Leashed(run).complete() if await has_python(remote) else run_by_sh(run))
        except TimeoutError:
            if not limit.expired():
                raise
            raise run.timeout(time.monotonic() - start) from None
    completed = attrs.evolve(run.completed, duration_s=time.monotonic() - start)
    if completed.leftovers:
        text = f"what the command left running was ended with it (start_job keeps it): {', '.join(completed.leftovers)}"
        remote.emit(Noted(node=remote.node.name, text=text))
    return completed.check() if check else completed


class _Leashed:
    """One run by our program on the node."""

    def __init__(self, run: Run) -> None:
        self.run = run

    async def complete(self) -> Completed:
        """Run the command and return how it ended; whatever ends us instead ends it on the node."""
        run = self.run
        async with call_program(run.remote, "run.run", _arguments(run.command)) as call:
            try:
                while block := await run.stdin.next_block():
                    call.send(b"I", block)
                    await call.drain()
                call.send(b"E")
                run.is_sent = True
                return self._completed(await self._pump(call))
            except BaseException:
                # Before its input is complete it has not begun, and with this channel's end it never will.
                if run.is_sent and not call.returned:
                    run.output.is_ending = True
                    await finish(self._stop(call), END_S)
                raise

    async def _pump(self, call: Call) -> bytes:
        """Take the output until the program answers, and return its answer."""
        while True:
            kind, payload = await call.receive()
            if kind == b"O":
                await self.run.output.add("stdout", payload)
            elif kind == b"E":
                await self.run.output.add("stderr", payload)
            elif kind == b"Z":
                return payload
            else:
                what = f"a run: its output or its end was expected, got a frame {kind!r}"
                raise ProtocolError(call.remote.node.name, what)

    async def _stop(self, call: Call) -> None:
        """Ask the node to end the run, and keep what it says; failing that, the channel's end lets the leash act."""
        try:
            call.send(b"K", str(GRACE_S).encode())
            with hurried_by_a_person(lambda: call.send(b"K", b"0")):
                self.run.ended(self._completed(await self._pump(call)))
        except DeployError:
            return  # what ends us is said already; that the node did not confirm the end is said by who says that

    def _completed(self, answer: bytes) -> Completed:
        command, output, node = self.run.command, self.run.output, self.run.remote.node.name
        parts = answer.split(b"\0")
        if parts[0] == b"!":
            why = last_lines(b" ".join(parts[1:]), 1)
            raise CommandFailed(node, f"could not be started: {why}: {command.shown}", command=command.shown)
        found = _END.match(answer)
        if found is None:
            what = f"the end of a run: an exit status and a signal's number were expected, got {answer[:SHOWN]!r}"
            raise ProtocolError(node, what)
        survivors, leftovers, path = _parted(parts[2:])
        status, number = int(found[1]), int(found[2])
        return Completed(
            node,
            command.shown,
            status if number == 0 else None,
            _SIGNALS.get(number, f"{number}") if number > 0 else None,
            output.value("stdout"),
            output.value("stderr"),
            output.dropped,
            survivors=survivors,
            leftovers=leftovers,
            path=" ".join(path),
        )


def _parted(words: Sequence[bytes]) -> list[tuple[str, ...]]:
    """Return what stands between empty words: three lists."""
    lists: list[list[str]] = [[], [], []]
    at = 0
    for word in words:
        if word:
            lists[at].append(one_line(word))
        else:
            at = min(at + 1, 2)
    return [tuple(each) for each in lists]


def _arguments(command: Command) -> bytes:
    env = {**dict(command.env), **command.secret_values()}
    fields = [secrets.token_hex(8), str(GRACE_S), command.cwd or "", command.on_end or "", command.line]
    fields += [f"{name}={value}" for name, value in env.items()]
    return "\0".join(fields).encode("utf-8", "surrogateescape")
