"""Our programs on a node: calls of them, on a worker.

A worker is a small Python process behind one channel. It serves one call after the other and is given back to the
pool in between, so a warm call costs one request and one answer: no new channel, no login shell, no interpreter
start.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.failures import failure_of
from asyncdeploy.remote.frames import MAX_FRAME, PART, Session
from asyncdeploy.remote.interpreter import KIND, open_worker
from asyncdeploy.remote.programs import needed, program_code, program_source
from asyncdeploy.remote.transport import Remote
from asyncdeploy.values.errors import ProtocolError, ToolMissing

HEARTBEAT_S = 15.0
"""The node waits for 90 s of silence, so five may be lost; it signs its own life as often."""
SILENCE_S = 90.0
"""A worker that was silent for so long in a call hangs (a dead network disk, a stopped process) and is given up."""


@asynccontextmanager
async def call_program(remote: Remote, program: str, args: bytes | Callable[[], bytes]) -> AsyncIterator[Call]:
    """Call a node_side program; the context's end without its answer closes the channel, which ends the program.

    Args:
        remote: the node.
        program: a module below node_side, "push.receiver"; its ``main(worker, args)`` runs.
        args: what it takes; where that depends on how long a worker was waited for, what gives it when there is one.

    Raises:
        ToolMissing: the node has no python3.
        NoShell, ConnectError, AuthError, HostKeyError, ConnectionLost: as Remote.open.
    """
    session = await open_worker(remote)
    if session is None:
        name = remote.node.name
        raise ToolMissing(
            name,
            "python3 >= 3.8 is needed on the node for this",
            "install python3 there",
            str(remote.memory.get("pythons") or ""),
            tool="python3",
        )
    call = Call(remote, session)
    try:
        call.begin(program, args if isinstance(args, bytes) else args())
        yield call
    finally:
        call.end()
        if call.returned:
            remote.give_back(session.channel, KIND)
        else:
            await session.channel.close()


async def call_once(remote: Remote, program: str, args: bytes) -> bytes:
    """Call a program that only answers, and return its answer.

    Raises:
        ProtocolError: it sent something else first.
        ProgramFailed and others: as ``Call.receive`` and ``call_program``.
    """
    async with call_program(remote, program, args) as call:
        return await call.answer()


async def ask(remote: Remote, program: str, request: Mapping[str, Any], *, what: str) -> Answer:
    """Call a program that takes an object and only answers with one, as JSON; whoever takes it apart is told of lies.

    Args:
        remote: the node.
        program: a module below node_side.
        request: plain data.
        what: what is asked, for people: "the answer to <what> is not what its program sends".

    Raises:
        ProtocolError: the answer is no JSON.
        ProgramFailed and others: as ``Call.receive`` and ``call_program``.
    """
    return Answer.read(remote.node.name, what, await call_once(remote, program, json.dumps(request).encode()))


class Call:
    """One program running on a worker. Signs of life go out by themselves while it lasts.

    Attributes:
        remote: the node.
        returned: True once the program's answer was received.
    """

    def __init__(self, remote: Remote, session: Session) -> None:
        self.remote = remote
        self.returned = False
        self._session = session
        self._program = ""
        self._beat: asyncio.TimerHandle | None = None
        self._began_at = 0.0

    def begin(self, program: str, args: bytes) -> None:
        """Send what the program needs and this worker does not know yet, and the call."""
        self._program = program
        for module in needed(program):
            self._provide(module)
        message = program.encode() + b"\0" + args
        while len(message) > MAX_FRAME:
            self.send(PART, message[:MAX_FRAME])
            message = message[MAX_FRAME:]
        self.send(b"C", message)
        self._began_at = time.monotonic()
        self._schedule()

    def _provide(self, module: str) -> None:
        if module not in self._session.modules:
            text = program_code(module) if self._session.takes_code else program_source(module)
            self.send(b"P", module.encode() + b"\0" + text)
            self._session.modules.add(module)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Queue one frame; never waits, so call ``drain`` after more than a few.

        Args:
            kind: one byte.
            payload: at most 1 MiB.
        """
        assert len(kind) == 1, kind
        if len(payload) > MAX_FRAME:
            raise ValueError(f"a frame holds at most {MAX_FRAME} bytes, got {len(payload)}")
        self._session.channel.send(kind + len(payload).to_bytes(4, "big") + payload)

    async def drain(self) -> None:
        """Wait until the queue towards the node is short.

        Raises:
            ConnectionLost: the connection broke.
        """
        await self._session.channel.drain()

    def rate(self) -> float:
        """Return the bytes a second that the network has been seen to carry for this connection, 0 if unknown."""
        return self._session.channel.rate()

    async def receive(self) -> tuple[bytes, bytes]:
        """Return the program's next frame; (b"Z", answer) is its end.

        Raises:
            NodeFull, ProgramFailed: it raised.
            ConnectionLost: the connection broke or the worker died: what it did is unknown.
            ProtocolError: something else came than a frame.
        """
        kind, payload = await self._session.receive()
        while kind == b"H":  # a sign of life: that it came is all that it says
            kind, payload = await self._session.receive()
        if kind == b"Z":
            self.returned = True
        elif kind == b"F":
            self.returned = True  # the worker itself lives on
            raise failure_of(self.remote.node.name, self._program, payload)
        return kind, payload

    async def answer(self) -> bytes:
        """Return the program's answer; no other frame may come before it.

        Raises:
            ProtocolError: one came.
            ProgramFailed and others: as ``receive``.
        """
        kind, payload = await self.receive()
        if kind != b"Z":
            what = f"our program {self._program!r} sent a frame {kind!r} where its answer was expected"
            raise ProtocolError(self.remote.node.name, what)
        return payload

    def end(self) -> None:
        """Stop the signs of life."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _schedule(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._send_beat)

    def _send_beat(self) -> None:
        """Say that we live, and see whether the node does: one clock for all waits of a call."""
        channel = self._session.channel
        if min(channel.quiet_s(), time.monotonic() - self._began_at) > SILENCE_S:
            channel.break_off(f"our worker on the node has hung: nothing came from it for over {SILENCE_S:g} s")
            return
        self.send(b"H")
        self._schedule()
