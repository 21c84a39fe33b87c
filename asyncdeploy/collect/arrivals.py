"""What comes of what was asked for: each file is proven before it gets its name, and none brings more than it may."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

import attrs

from asyncdeploy.collect.choice import Want
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import Entry, LeftBehind, nonsense
from asyncdeploy.collect.parts import Partial
from asyncdeploy.collect.portions import in_portions
from asyncdeploy.collect.target import Target, why_on_disk
from asyncdeploy.remote.transport import Remote
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.tasks.turns import Turns
from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.events import BytesMoved
from asyncdeploy.values.words import last_lines

SHOW_BYTES = 4 << 20
"""A BytesMoved event for so many bytes: smooth for a bar, nothing for the loop."""
MAX_HOLE = 1 << 26
"""Bytes of zeros that one frame may stand for: hashing them takes a blink."""
SMALL_BYTES = 1 << 16
"""A write of this much is quicker than the way to a thread; more may wait for a slow disk."""


class Sender(Protocol):
    """Who answers on the node: our program there, or what stands for it where there is no python3."""

    async def receive(self) -> tuple[bytes, bytes]:
        """Return the next frame: its kind and what is in it."""
        ...


@attrs.define
class Arrival:
    """A file that comes; ``partial`` is there from its first byte on, or never if all of it was here.

    Attributes:
        lost: what comes of it is dropped: the disk here does not take it.
    """

    number: int
    want: Want
    offset: int
    partial: Partial | None = None
    lost: bool = False


class Arrivals:
    """The files of one collect as they come.

    Args:
        remote: the node.
        local: where they are put.
        limits: bounds on what comes.
        wanted: what was asked for, by its number.
        left_behind: is told what the node cannot send.

    Attributes:
        missing: what was asked for and has neither come nor been given up.
        received: files that came.
        renewed: files of which all was here, but for their time.
        bytes_received: bytes of content that came, holes among them.
    """

    def __init__(
        self,
        remote: Remote,
        local: Target,
        limits: CollectLimits,
        wanted: Mapping[int, Want],
        left_behind: LeftBehind,
    ) -> None:
        self.missing = dict(wanted)
        self.received = self.renewed = self.bytes_received = 0
        self._remote = remote
        self._local = local
        self._limits = limits
        self._left_behind = left_behind
        self._total = sum(want.entry.size - want.offset for want in wanted.values())
        self._shown = 0
        self._arrival: Arrival | None = None

    async def receive(self, sender: Sender) -> None:
        """Take what comes until the sender has nothing more; one frame of it is in memory at a time.

        Raises:
            ProtocolError: it sends what no honest sender does.
        """
        turns = Turns()
        try:
            while True:
                kind, payload = await sender.receive()
                if kind == b"D" and self._arrival is not None and payload:
                    await self._take(self._arrival, payload, len(payload))
                elif kind == b"G" and self._arrival is not None and 0 < int.from_bytes(payload, "big") <= MAX_HOLE:
                    await self._take(self._arrival, b"", int.from_bytes(payload, "big"))
                elif kind == b"B" and self._arrival is None and len(payload) == 12:
                    self._begin(payload)
                elif kind == b"T" and self._arrival is not None and len(payload) == 44:
                    self._finish(self._arrival, payload)
                elif kind == b"X" and len(payload) >= 4:
                    self._give_up(payload)
                elif kind == b"Z" and self._arrival is None and not self.missing:
                    break
                else:
                    what = f"a frame {kind!r} of {len(payload)} bytes, where {self._expected()} was expected"
                    raise self._nonsense(what)
                if turns.over():  # thousands of small files may be here already
                    await turns.next()
        finally:
            if self._arrival is not None and not self._arrival.lost:
                self.missing[self._arrival.number] = self._arrival.want
            self._abandon()
        if self._shown < self.bytes_received:
            self._show()

    def _expected(self) -> str:
        if self._arrival is not None:
            return f"more of {os.fsdecode(self._arrival.want.entry.path)!r}, or its end,"
        return f"one of the {len(self.missing)} files that are missing" if self.missing else "the end"

    def _begin(self, payload: bytes) -> None:
        number, offset = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:], "big")
        want = self.missing.pop(number, None)
        if want is None or offset not in (0, want.offset):
            raise self._nonsense(f"file {number} of its listing from byte {offset} on, which was not asked for")
        self._arrival = Arrival(number, want, offset)

    async def _take(self, arrival: Arrival, data: bytes, size: int) -> None:
        """Take the next bytes of a file, or a hole of so many."""
        # A file may have grown since it was listed: what it may bring is what the budget has left, as the sender knows.
        if self.bytes_received + size > self._limits.max_bytes:
            raise self._nonsense(f"more of {os.fsdecode(arrival.want.entry.path)!r} than the budget allows")
        self.bytes_received += size
        if not arrival.lost:
            try:
                await self._write(arrival, data, size)
            except OSError as error:
                self._lose(arrival, error)
        if self.bytes_received - self._shown >= SHOW_BYTES:
            self._show()

    async def _write(self, arrival: Arrival, data: bytes, size: int) -> None:
        if arrival.partial is None:
            arrival.partial = self._local.begin(arrival.want.entry.path)
            if arrival.offset:
                known = self._local.copy_beginning(arrival.partial, arrival.offset, arrival.want.known)
                await in_portions(known)
        if not data:
            await run_in_thread(arrival.partial.skip, size)
        elif size > SMALL_BYTES:
            await run_in_thread(arrival.partial.write, data)
        else:
            arrival.partial.write(data)

    def _lose(self, arrival: Arrival, error: OSError) -> None:
        """Go on without a file that the disk here does not take; what is true of all that follow ends the collect."""
        self._left_behind.add(arrival.want.entry.path, why_on_disk(error))
        arrival.lost = True
        if arrival.partial is not None:
            partial, arrival.partial = arrival.partial, None
            self._local.abandon(partial)

    def _finish(self, arrival: Arrival, trailer: bytes) -> None:
        try:
            if not arrival.lost:
                self._put(arrival, trailer)
        except OSError as error:
            self._lose(arrival, error)
        self._arrival = None

    def _put(self, arrival: Arrival, trailer: bytes) -> None:
        """Prove a file and give it its name."""
        entry, mtime_ns = arrival.want.entry, int.from_bytes(trailer[32:], "big", signed=True)
        if arrival.partial is None and arrival.offset:
            self._check(entry, arrival.want.known, trailer)
            self._local.renew(entry.path, entry.mode, mtime_ns)
            self.renewed += 1
        else:
            partial = arrival.partial or self._local.begin(entry.path)
            arrival.partial = partial
            self._check(entry, partial.sha.digest(), trailer)
            arrival.partial = None
            self._local.finish(partial, entry.mode, mtime_ns)
            self.received += 1

    def _check(self, entry: Entry, digest: bytes, trailer: bytes) -> None:
        if digest != trailer[:32]:
            said, found = trailer[:6].hex(), digest[:6].hex()
            what = f"a content of {os.fsdecode(entry.path)!r} with the hash {found}..., where it says {said}..."
            raise self._nonsense(what)

    def _give_up(self, payload: bytes) -> None:
        """The node cannot send a file, or not to its end."""
        number = int.from_bytes(payload[:4], "big")
        if self._arrival is not None and self._arrival.number == number:
            want, was_lost = self._arrival.want, self._arrival.lost
            self._abandon()
            if was_lost:  # and named
                return
        elif self._arrival is None and number in self.missing:
            want = self.missing.pop(number)
        else:
            raise self._nonsense(f"why file {number} of its listing does not come, which was not asked for")
        self._left_behind.add(want.entry.path, last_lines(payload[4:], 1) or "the node does not say why")

    def _abandon(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and arrival.partial is not None:
            self._local.abandon(arrival.partial)

    def _show(self) -> None:
        self._shown = self.bytes_received
        name = self._remote.node.name
        self._remote.emit(BytesMoved(node=name, stage="collect", done=self.bytes_received, total=self._total))

    def _nonsense(self, what: str) -> ProtocolError:
        return nonsense(self._remote.node.name, what)
