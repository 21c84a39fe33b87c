"""An attached run on a simulated node, as node_side/run/run.py does it: the leash."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulator.machine.shell import Leader
from tests.simulator.machine.world import Record
from tests.simulator.model.worker import LIFE_S, Gone, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 17


async def take_input(worker: Worker) -> bytes:
    """Return all input; before its end nothing begins."""
    data = bytearray()
    while True:
        kind, payload = await worker.receive()
        if kind == b"E":
            return bytes(data)
        if kind == b"I":
            data += payload


async def run(worker: Worker, args: bytes) -> bytes:
    """Run one command for the client and hold it on a leash."""
    marker, grace, _cwd, _on_end, line, *env = args.split(b"\0")
    stdin = await take_input(worker)
    node = worker.node
    out: list[bytes] = []
    record = Record(node.name, marker.decode(), line.decode(), node.loop.now, tuple(env), stdin)
    leader = Leader(node, record, _printer(out, worker), worker.end.wake)
    worker.process.at_death.append(lambda: leader.stop(float(grace)))  # the keeper, which stands above the worker
    gone = False
    while not leader.is_ended or (out and not gone):
        while not gone and (frame := worker.take()) is not None:
            if frame[0] == b"K":
                leader.stop(float(frame[1] or grace))
        if not gone and worker.is_gone():
            gone = True
            leader.stop(float(grace))
        try:
            while out and not gone:
                await worker.send(b"O", out.pop(0))
            if not gone:
                await worker.sign_life()
        except Gone:
            continue
        if gone:
            await asyncio.sleep(0.1)
        elif not leader.is_ended:
            await worker.end.more(LIFE_S)
    if gone:
        raise Gone
    if leader.status is not None:
        record.status = leader.status
        return b"%d\x000\0" % leader.status
    record.signal = leader.signal
    return b"-1\0%d\0" % (leader.signal or -1)


def _printer(out: list[bytes], worker: Worker) -> Callable[[bytes], None]:
    def printed(data: bytes) -> None:
        out.extend(data[start : start + MOST] for start in range(0, len(data), MOST))
        worker.end.wake()

    return printed
