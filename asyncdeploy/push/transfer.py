"""One push's talk with a node's receiver: what it asks for, and our answers, until it is done."""

from __future__ import annotations

import operator
import struct
from bisect import bisect_left
from collections.abc import Awaitable

import anyio

from asyncdeploy.push.answer import Answer
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.bundle.pieces import DIGEST, SHORT, Run, pack_runs, runs_of
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.push.relay.feed import Feed
from asyncdeploy.remote.frames import MAX_FRAME
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.errors import DeployError, ProtocolError

RUNS_FRAME = 5 * 100_000
"""Bytes of runs in one frame: below what a frame may hold."""


class Transfer:
    """What the node asks for, and our answers to it, until it is done."""

    def __init__(self, remote: Remote, crew: Crew, bundle: Bundle) -> None:
        self.remote = remote
        self.crew = crew
        self.bundle = bundle
        self.feed: Feed | None = None
        self.shares_disk = False
        self.bases: dict[int, bytearray] = {}
        self.failure: DeployError | None = None

    async def run(self, call: Call) -> bytes:
        """Serve the node until its program returns, and return its answer."""
        wanted: list[int] = []
        while True:
            kind, payload = await call.receive()
            if kind == b"Z":
                return payload
            if kind == b"S":
                self.shares_disk = True
                self.crew.gone(self.remote.node.name)  # nobody needs to wait for it
            elif kind == b"M":
                await self.send_manifest(call)
            elif kind == b"N":
                wanted += self.numbers(payload, wanted)
            elif kind == b"B":
                self.take_base(payload, wanted)
            elif kind == b"G":
                return await self.send_contents(call, wanted)
            else:
                raise self.nonsense(f"a frame {kind!r}, where what it wants or its answer was expected")

    async def send_manifest(self, call: Call) -> None:
        data = await self.bundle.packed_manifest()
        for start in range(0, len(data), MAX_FRAME):
            call.send(b"M", data[start : start + MAX_FRAME])
            await call.drain()
        call.send(b"E")

    def numbers(self, payload: bytes, before: list[int]) -> list[int]:
        """Return what the node wants; each number is a content of ours and larger than the one before."""
        found = list(struct.unpack(f">{len(payload) // 4}I", payload[: len(payload) // 4 * 4]))
        whole = [*before[-1:], *found]
        rising = all(map(operator.lt, whole, whole[1:]))
        if len(payload) % 4 or not found or not rising or found[-1] >= len(self.bundle.manifest.contents):
            count = len(self.bundle.manifest.contents)
            raise self.nonsense(f"numbers of contents, which were expected to rise and to be below {count}")
        return found

    def take_base(self, payload: bytes, wanted: list[int]) -> None:
        """Remember what the node has of a large content that it wants: the first bytes of its pieces' digests."""
        number = int.from_bytes(payload[:4], "big")
        at = bisect_left(wanted, number)  # they rise; a look at each would be one at all of them for each large content
        if wanted[at : at + 1] != [number]:
            raise self.nonsense(f"what it has of content {number}, which it did not ask for")
        base = self.bases.setdefault(number, bytearray())
        base += payload[4:]
        pieces = len(self.bundle.pieces(number)) // DIGEST
        if len(base) > pieces * SHORT:
            raise self.nonsense(f"{len(base) // SHORT} pieces of content {number}, which has {pieces}")

    async def send_runs(self, call: Call, wanted: list[int]) -> dict[int, tuple[Run, ...]]:
        """Tell the node where each piece of its large contents comes from."""
        found = {}
        for number in wanted:
            if digests := self.bundle.pieces(number):
                base = bytes(self.bases.get(number, b""))
                found[number], data = await run_in_thread(_runs, digests, base)
                for start in range(0, len(data), RUNS_FRAME):
                    call.send(b"K", number.to_bytes(4, "big") + data[start : start + RUNS_FRAME])
                    await call.drain()
        return found

    async def send_contents(self, call: Call, wanted: list[int]) -> bytes:
        """See to it that contents reach the node until all are there or it has had enough; return its answer."""
        runs = await self.send_runs(call, wanted)
        blocks = await run_in_thread(self.bundle.blocks, wanted, runs)
        self.feed = feed = Feed(self.remote, call, self.bundle, blocks)
        answer = b""
        async with anyio.create_task_group() as group:

            async def guard(work: Awaitable[bytes | None]) -> None:
                nonlocal answer
                try:
                    answer = await work or b""
                except DeployError as error:
                    self.failure = self.failure or error
                group.cancel_scope.cancel()

            group.start_soon(guard, self.crew.feed(feed))
            group.start_soon(guard, self.receive_answer(call, feed))
        if self.failure is not None:
            raise _named(self.failure, self.remote.node.name)
        return answer

    async def receive_answer(self, call: Call, feed: Feed) -> bytes:
        while True:
            kind, payload = await call.receive()
            if kind == b"Z":
                feed.done = True
                return payload
            if not feed.heed(kind, payload):
                raise self.nonsense(f"a frame {kind!r}, where its progress or its answer was expected")

    def nonsense(self, what: str) -> ProtocolError:
        """Return the error for what no receiver of ours does."""
        return ProtocolError(self.remote.node.name, f"during a push, the node sent {what}")

    def detail(self, answer: Answer) -> str:
        feed = self.feed
        if self.shares_disk and not answer.changed:
            return "= pushed through another node, which shares its disk"
        words = [answer.summary(feed.sent if feed else 0)]
        if feed is not None and feed.relayed:
            words.append("by other nodes")
        if feed is not None and feed.direct_because:
            words.append(f"directly: {feed.direct_because}")
        return ", ".join(words)


def _runs(digests: bytes, base: bytes) -> tuple[tuple[Run, ...], bytes]:
    """Return what becomes of a content's pieces, and the same as it travels."""
    runs = runs_of(digests, base)
    return runs, pack_runs(runs)


def _named(error: DeployError, node: str) -> DeployError:
    """An error of our own disk has no node yet: the one whose push it ended."""
    error.node = error.node or node
    return error
