"""What commands do: a shell of a dozen words, whose lines mean the same to a real one.

A line is of statements joined by "; ": `echo TEXT`, `sleep S`, `seq N`, `cat`, `exit N`, `kill -9 $$`, `trap '' TERM`,
`trap 'exit N' TERM`; and `flood N`, which is of this shell alone: N lines of 64 KiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulator.machine.world import Record

if TYPE_CHECKING:
    from tests.simulator.machine.node import Node, Process

TERM, KILL = 15, 9
BLOCK = 300
"""Lines of `seq` that come in one piece."""


class Leader:
    """A line that runs: one process that knows TERM, KILL and how to end.

    Args:
        node: where.
        record: what is known of it.
        printed: is told of each piece of output.
        ended: is told when it is over, with what a parent sees.
    """

    def __init__(
        self, node: Node, record: Record, printed: Callable[[bytes], object], ended: Callable[[], object]
    ) -> None:
        self.node, self.record = node, record
        self._printed, self._told = printed, ended
        self._trap: int | None = None
        self._is_deaf = False
        self._kill_at = float("inf")
        self.stopped = False
        self.is_ended = False
        node.world.records.append(record)
        node.world.note(f"{node.name} starts {record.key}")
        self.process: Process = node.spawn("command", self._run)

    async def _run(self, process: Process) -> None:
        status = 0
        for statement in self.record.line.split("; "):
            word, _, rest = statement.partition(" ")
            if word == "exit":
                status = int(rest)
                break
            if word == "kill":
                self._end(None, KILL)
                return
            await self._do(word, rest)
        self._end(status, None)

    async def _do(self, word: str, rest: str) -> None:
        if word == "echo":
            self._print(rest.encode() + b"\n")
        elif word == "sleep":
            await asyncio.sleep(float(rest))
        elif word == "seq":
            last = int(rest)
            for first in range(1, last + 1, BLOCK):
                self._print(b"".join(b"%d\n" % number for number in range(first, min(first + BLOCK, last + 1))))
                await asyncio.sleep(0.001)
        elif word == "flood":
            for _ in range(int(rest)):
                self._print(b"x" * 65_535 + b"\n")
                await asyncio.sleep(0.001)
        elif word == "cat":
            self._print(self.record.stdin)
        elif word == "trap":
            self._is_deaf = rest == "'' TERM"
            self._trap = None if self._is_deaf else int(rest.split("'")[1].removeprefix("exit "))
        else:
            raise ValueError(f"no word of the simulator's shell: {word!r}")

    def _print(self, data: bytes) -> None:
        self.record.printed += data
        self._printed(data)

    def stop(self, grace_s: float) -> None:
        """TERM, and after a grace KILL; a shorter grace may be asked for later."""
        if self.is_ended:
            return
        self.record.asked = self.stopped = True
        if not self._is_deaf:
            self._end(*((self._trap, None) if self._trap is not None else (None, TERM)))
            return
        if self.node.loop.now + grace_s < self._kill_at:
            self._kill_at = self.node.loop.now + grace_s
            self.node.loop.call_later(grace_s, self.kill, context=self.node.world.context(self.process))

    def kill(self) -> None:
        """KILL."""
        self._end(None, KILL)

    def _end(self, status: int | None, signal: int | None) -> None:
        if self.is_ended or self.record.is_ended:
            return
        self.is_ended = self.record.is_ended = True
        self.record.ended_at = self.node.loop.now
        self.status, self.signal = status, signal
        self.node.world.note(f"{self.node.name} ends {self.record.key} {status} {signal}")
        self.process.die()
        self._told()
