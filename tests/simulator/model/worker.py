"""The worker on a simulated node: its greeting, its frames, its signs of life, as node_side/worker.py has them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from asyncdeploy.remote.frames import MAX_FRAME
from asyncdeploy.remote.programs import BYTECODE
from tests.simulator.model.lies import bent

if TYPE_CHECKING:
    from tests.simulator.machine.node import Node, Process
    from tests.simulator.machine.sshd import End

SILENCE_S, LIFE_S = 90.0, 15.0
START_S = 0.02
_COMPILED = re.compile(rb"import marshal;exec\(marshal\.loads\(f\.read\((\d+)\)\)\)")

Program = Callable[["Worker", bytes], Awaitable[bytes]]


class Gone(Exception):
    """The client is, or says nothing for so long that it must be."""


class Worker:
    """What a program sees of its client."""

    def __init__(self, node: Node, process: Process, end: End) -> None:
        self.node, self.process, self.end = node, process, end
        self._said_at = node.loop.now

    def take(self) -> tuple[bytes, bytes] | None:
        """Return the next whole frame, signs of life swallowed."""
        inbox = self.end.inbox
        while len(inbox) >= 5:
            size = int.from_bytes(inbox[1:5], "big")
            if size > MAX_FRAME:
                raise Gone
            if len(inbox) < 5 + size:
                return None
            kind, payload = bytes(inbox[:1]), bytes(inbox[5 : 5 + size])
            del inbox[: 5 + size]
            if kind != b"H":
                return kind, payload
        return None

    async def receive(self, *, idle: bool = False) -> tuple[bytes, bytes]:
        """Return the client's next frame."""
        while True:
            frame = self.take()
            if frame is not None:
                return frame
            if self.end.is_eof:
                raise Gone
            await self.end.more(3600.0 if idle else LIFE_S)
            if not idle:
                self.poll()
                await self.sign_life()

    def is_gone(self) -> bool:
        return self.end.is_over or self.node.loop.now - self.end.heard_at > SILENCE_S

    def poll(self) -> None:
        if self.is_gone():
            raise Gone

    async def sign_life(self) -> None:
        if self.node.loop.now - self._said_at >= LIFE_S:
            await self.send(b"H")

    async def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send one frame."""
        self._said_at = self.node.loop.now
        try:
            await self.end.write(kind + len(payload).to_bytes(4, "big") + payload)
        except OSError:
            raise Gone from None


async def serve(node: Node, process: Process, end: End, nonce: str) -> None:
    """Be the worker of one session until its client goes away."""
    worker = Worker(node, process, end)
    try:
        await end.write(f"{nonce}.at{process.pid}\n".encode())
        await asyncio.sleep(START_S * (0.5 + node.world.chance.random()) + min(node.disk_s, 5.0))
        await end.write(f"{nonce}.{sys.hexversion} {BYTECODE}\n".encode())
        source = await _take_source(worker)
        if compiled := _COMPILED.fullmatch(source):  # what it reads beside it
            await _take(worker, int(compiled[1]))
        await _calls(worker)
    except (Gone, OSError):
        return
    finally:
        if not process.is_dead:
            end.exit(0)


async def search(node: Node, process: Process, end: End, nonce: str) -> None:
    """Be the script that looks for a python3, where our line found none: it finds the usual one."""
    worker = Worker(node, process, end)
    try:
        await end.write(f"{nonce}.at{process.pid}\n".encode())
        text = await _take_source(worker)
        found = re.match(rb"set -- (asyncdeploy-[0-9a-f]+) (\d+) (\d+) (\d+)\n", text)
        if found is None:
            node.world.is_void = True  # its python3 was killed twice over its start: it is asked by sh, which we lack
            return
        mark, _, _, hung = found.groups()
        if int(hung) in node.processes:
            node.processes[int(hung)].die()
        await asyncio.sleep(START_S + min(node.disk_s, 5.0))
        await end.write(b"%s use %d /usr/bin/python3\n" % (mark, sys.hexversion))
    except (Gone, OSError):
        return
    finally:
        if not process.is_dead:
            end.exit(0)


async def _take_source(worker: Worker) -> bytes:
    inbox = worker.end.inbox
    while b"\n" not in inbox:
        if worker.end.is_eof:
            raise Gone
        await worker.end.more(3600.0)
    start = inbox.index(b"\n")
    size = int(inbox[:start])
    del inbox[: start + 1]
    return await _take(worker, size)


async def _take(worker: Worker, size: int) -> bytes:
    inbox = worker.end.inbox
    while len(inbox) < size:
        if worker.end.is_eof:
            raise Gone
        await worker.end.more(3600.0)
    text = bytes(inbox[:size])
    del inbox[:size]
    return text


async def _calls(worker: Worker) -> None:
    from tests.simulator.model.programs import PROGRAMS

    begun = b""
    while True:
        kind, payload = await worker.receive(idle=True)
        if kind == b"+":
            begun += payload
            continue
        payload, begun = begun + payload, b""
        name, _, rest = payload.partition(b"\0")
        if kind != b"C":
            continue  # a program's source, or of a call that has ended meanwhile
        worker.end.heard_at = worker._said_at = worker.node.loop.now
        program = PROGRAMS.get(name.decode())
        if program is None:
            worker.node.world.breaks(f"the model knows no program {name.decode()!r}")
            raise Gone
        try:
            answer = await program(worker, rest)
        except OSError as error:
            said = f"OSError: {error}\0\0{error.errno}\0{error.filename or ''}"
            await worker.send(b"F", said.encode())
            continue
        if worker.node.lies:
            worker.node.lies -= 1
            worker.node.lied = True
            await bent(worker, answer)
        else:
            await worker.send(b"Z", answer)


def errno_of(number: int) -> OSError:
    """Return the OSError of a number."""
    return OSError(number, os.strerror(number))
