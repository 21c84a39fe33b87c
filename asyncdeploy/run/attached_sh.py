"""Run a command on a node without python3: the leash in sh (node_side/run/run.sh)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from asyncdeploy.remote.sh import exports, script
from asyncdeploy.remote.transport import Channel, Exit, Remote
from asyncdeploy.remote.worker import HEARTBEAT_S, open_script
from asyncdeploy.run.streams import Output, Stream, input_blocks
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import CommandFailed, CommandTimeout, ConnectionLost, DeployError, ToolMissing
from asyncdeploy.values.words import last_lines

GRACE_S = 1
"""TERM to KILL, in whole seconds, as a shell counts: with the looks between it stays below END_S."""
END_S = 4.5
"""How long we wait for the node's word that a run was ended; then the channel is closed, and its leash acts."""
SILENCE_S = 90
"""The node ends a run when nothing was heard for so long: a shorter nap of ours must not cost it."""
REST_S = 2.0
"""How long we wait for more output once the end is known: a process that we cannot see may hold the pipe for ever."""
MAX_ANSWER = 64 * 1024


async def run_by_sh(remote: Remote, command: Command, output: Output) -> Completed:
    """Run a command by sh alone, with the same promises as ``run_command``, but for one: a status above 128 may be a
    signal.

    Args:
        remote: a node without python3.
        command: what to run.
        output: takes what it prints.

    Raises:
        CommandFailed: it could not be started.
        CommandTimeout: it ran longer than its timeout_s and was ended.
        ToolMissing: the node has no timeout, without which our silence would go unnoticed.
        ConnectionLost: the connection broke, or no status came back: what became of it is unknown, its leash ends it.

    On cancellation the run is ended on the node before this returns.
    """
    body = exports({**dict(command.env), **command.secret_values()}) + command.line
    words = (secrets.token_hex(8), str(GRACE_S), str(SILENCE_S), command.cwd or "", command.on_end or "", body)
    channel = await open_script(remote, script(("processes", "run/run"), *words))
    run = _Run(remote, command, output, channel)
    try:
        return await run.complete()
    finally:
        await channel.close()


class _Run:
    """One command on its leash."""

    def __init__(self, remote: Remote, command: Command, output: Output, channel: Channel) -> None:
        self.remote = remote
        self.command = command
        self.output = output
        self.channel = channel
        self.rest = b""  # of stdout, behind the first line
        self.received = 0  # bytes of both streams
        self.sent = False  # all of the input is
        self.started = False
        self.deaf = False  # its output could not be kept: what still comes is dropped

    async def complete(self) -> Completed:
        with anyio.move_on_after(self.command.timeout_s) as limit:
            try:
                await self.send_input()
                await self.await_start()
                return self.completed(await self.watch())
            except anyio.get_cancelled_exc_class():
                if not limit.cancel_called:
                    await self.stop()
                raise
            except DeployError:
                self.deaf = True
                await self.stop()
                raise
        raise self.timeout(ended=await self.stop())

    async def send_input(self) -> None:
        try:
            async with contextlib.aclosing(input_blocks(self.command.stdin)) as blocks:
                async for block in blocks:
                    self.channel.send(b"%-11d\n%s" % (len(block), block))
                    await self.channel.drain()
        except ConnectionLost:
            await self.await_start()  # a node that takes no more input says why
            raise
        self.channel.send(b"%-11d\n" % 0)
        self.sent = True

    async def await_start(self) -> None:
        """Read the script's own first line."""
        said = b""
        while b"\n" not in said and len(said) < MAX_ANSWER and (data := await self.channel.read()):
            said += data
        line, _, self.rest = said.partition(b"\n")
        node, text = self.remote.node.name, self.command.line
        if line == b"start":
            self.started = True
            return
        if line == b"missing timeout":
            raise ToolMissing(node, "timeout is needed on a node without python3", "install coreutils", tool="timeout")
        if line.startswith(b"failed "):
            why = last_lines(line[7:], 1)
            raise CommandFailed(node, f"could not be started: {why}: {text}", command=text)
        errors = b""
        with anyio.move_on_after(1):
            errors = await self.channel.read_stderr()
        what = "a word about the run's start was expected, the shell on the node ended without one"
        raise ConnectionLost(node, what, evidence=last_lines(said + errors))

    async def watch(self) -> Exit:
        """Take the output until the script ends, and return how it did."""
        exit_ = Exit()
        failure: DeployError | None = None
        ended = {"stdout": anyio.Event(), "stderr": anyio.Event()}

        async def guard(work: Callable[[], Awaitable[None]]) -> None:
            nonlocal failure
            try:
                await work()
            except DeployError as error:
                failure = failure or error
                group.cancel_scope.cancel()

        async def pump(stream: Stream) -> None:
            await self.pump(stream)
            ended[stream].set()

        async def wait() -> None:
            nonlocal exit_
            exit_ = await self.channel.wait()
            seen = -1
            while seen != self.received and not all(event.is_set() for event in ended.values()):
                seen = self.received
                with anyio.move_on_after(REST_S):
                    for event in ended.values():
                        await event.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(self.beat)
            for work in (partial(pump, "stdout"), partial(pump, "stderr"), wait):
                group.start_soon(guard, work)
        if failure is not None:
            raise failure
        return exit_

    async def beat(self) -> None:
        while True:
            self.channel.send(b"h\n")
            await anyio.sleep(HEARTBEAT_S)

    async def pump(self, stream: Stream) -> None:
        if stream == "stdout" and self.rest:
            data, self.rest = self.rest, b""
            self.output.add(stream, data)
        read = self.channel.read if stream == "stdout" else self.channel.read_stderr
        while data := await read():
            self.received += len(data)
            if not self.deaf:
                self.output.add(stream, data)

    async def stop(self) -> bool:
        """Ask the node to end the run; True if it said that nothing of it lives. If not, the channel's end does it."""
        if not self.sent:
            return True  # it begins when its input is complete, and that will never be
        with anyio.move_on_after(END_S, shield=True):
            try:
                self.channel.send(b"k\n")
                if not self.started:
                    await self.await_start()
                return (await self.watch()).status is not None
            except DeployError:
                return False
        return False

    def completed(self, exit_: Exit) -> Completed:
        node, command, output = self.remote.node.name, self.command, self.output
        if exit_.status is None:
            what = f"no exit status came back from: {command.line}"
            raise ConnectionLost(node, what, evidence=last_lines(output.value("stderr") or output.value("stdout")))
        return Completed(
            node,
            command.line,
            exit_.status,
            None,
            output.value("stdout"),
            output.value("stderr"),
            output.dropped,
            signal_possible=exit_.status > 128,
        )

    def timeout(self, *, ended: bool) -> CommandTimeout:
        limit, text = self.command.timeout_s or 0.0, self.command.line
        message = f"command ran longer than {limit:g} s and was ended: {text}"
        if not ended:
            message = f"command ran longer than {limit:g} s; the node did not confirm its end: {text}"
        evidence = last_lines(self.output.value("stderr") or self.output.value("stdout"))
        return CommandTimeout(self.remote.node.name, message, "", evidence, text, limit, ended)
