"""Run a command on a node without python3: the leash in sh (node_side/run/run.sh)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from asyncdeploy.remote.interpreter import open_script
from asyncdeploy.remote.sh import exports, script
from asyncdeploy.remote.transport import Channel, Exit
from asyncdeploy.remote.worker import HEARTBEAT_S
from asyncdeploy.run.leash import Run
from asyncdeploy.run.streams import Stream
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.command import Completed
from asyncdeploy.values.errors import CommandFailed, ConnectionLost, DeployError, ToolMissing
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


async def run_by_sh(run: Run) -> Completed:
    """Run a command by sh alone, with the same promises as ``run_command``, but for one: a status above 128 may be a
    signal.

    Args:
        run: the run, on a node without python3.

    Raises:
        CommandFailed: it could not be started.
        ToolMissing: the node has no timeout, without which our silence would go unnoticed.
        ConnectionLost: the connection broke, or no status came back: what became of it is unknown, its leash ends it.

    On cancellation the run is ended on the node before this returns; one whose input is still on its way is never
    started.
    """
    command = run.command
    body = exports({**dict(command.env), **command.secret_values()}) + command.line
    words = (secrets.token_hex(8), str(GRACE_S), str(SILENCE_S), command.cwd or "", command.on_end or "", body)
    channel = await open_script(run.remote, script(("processes", "run/run"), *words))
    try:
        return await _BySh(run, channel).complete()
    finally:
        await channel.close()


class _BySh:
    """One command on its leash."""

    def __init__(self, run: Run, channel: Channel) -> None:
        self.run = run
        self.channel = channel
        self.rest = b""  # of stdout, behind the first line
        self.received = 0  # bytes of both streams
        self.started = False
        self.deaf = False  # its output could not be kept: what still comes is dropped

    async def complete(self) -> Completed:
        try:
            await self.send_input()
            await self.await_start()
            return self.completed(await self.watch())
        except BaseException as error:
            self.deaf = isinstance(error, DeployError)
            self.run.output.is_ending = True
            if self.run.is_sent:  # else it begins when its input is complete, and that will never be
                await finish(self.stop(), END_S)
            raise

    async def send_input(self) -> None:
        try:
            while block := await self.run.stdin.next_block():
                self.channel.send(b"%-11d\n%s" % (len(block), block))
                await self.channel.drain()
        except ConnectionLost:
            await self.await_start()  # a node that takes no more input says why
            raise
        self.channel.send(b"%-11d\n" % 0)
        self.run.is_sent = True

    async def await_start(self) -> None:
        """Read the script's own first line."""
        said = b""
        while b"\n" not in said and len(said) < MAX_ANSWER and (data := await self.channel.read()):
            said += data
        line, _, self.rest = said.partition(b"\n")
        node, text = self.run.remote.node.name, self.run.command.shown
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
            await self.run.output.add(stream, data)
        read = self.channel.read if stream == "stdout" else self.channel.read_stderr
        while data := await read():
            self.received += len(data)
            if not self.deaf:
                await self.run.output.add(stream, data)

    async def stop(self) -> None:
        """Ask the node to end the run, and keep what it says of that. If it says nothing, the channel's end does it."""
        try:
            self.channel.send(b"k\n")
            if not self.started:
                await self.await_start()
            exit_ = await self.watch()
        except DeployError:
            return  # what ends us is said already; that the node did not confirm the end is said by who says that
        if exit_.status is not None:  # it ends without one where something could not be ended
            self.run.ended(self.completed(exit_))

    def completed(self, exit_: Exit) -> Completed:
        node, command, output = self.run.remote.node.name, self.run.command, self.run.output
        if exit_.status is None:
            what = f"no exit status came back from: {command.shown}"
            raise ConnectionLost(node, what, evidence=last_lines(output.value("stderr") or output.value("stdout")))
        return Completed(
            node,
            command.shown,
            exit_.status,
            None,
            output.value("stdout"),
            output.value("stderr"),
            output.dropped,
            signal_possible=exit_.status > 128,
        )
