"""Results home: node -> local, incremental, verified; the node's words are never trusted."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import MAX_LISTING_BYTES, Entry, Listing, nonsense
from asyncdeploy.collect.sender_sh import PlainSender, open_sender
from asyncdeploy.collect.names import link_escapes, why_not
from asyncdeploy.collect.parts import Partial
from asyncdeploy.collect.target import Target, is_file
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call, call_program, has_python
from asyncdeploy.values.command import last_lines
from asyncdeploy.values.errors import ProtocolError, TransferFailed
from asyncdeploy.values.events import BytesMoved, Noted
from asyncdeploy.values.patterns import Patterns
from asyncdeploy.values.workspace import Collected, check_remote_path

SHOW_BYTES = 4 << 20
"""A BytesMoved event for so many bytes: smooth for a bar, nothing for the loop."""
PORTION_S = 0.2
"""Disk work in a thread cannot be cancelled; after so long we look whether it should be."""
SMALL_BYTES = 1 << 16
"""A write of this much is quicker than the way to a thread; more may wait for a slow disk."""
ASKED_AT_ONCE = 5000
"""Wanted files in one frame: 220 KB, below the 1 MiB that a frame may hold."""


async def sync_results(
    remote: Remote, source: str, target: Path | str, *, limits: CollectLimits | None = None
) -> Collected:
    """Bring a folder or file of a node home; what is here already does not travel.

    A file of the same size and mtime is taken as the same. Of a file that grew only the tail travels; one whose
    beginning changed comes whole.

    Args:
        remote: the node.
        source: absolute path on the node, or "~/...".
        target: local folder, made where it is missing; nothing in it is deleted.
        limits: bounds on what is accepted.

    Returns:
        What came, and what was left behind and why: odd entries, refused names, budgets, files that changed meanwhile.

    Raises:
        TransferFailed: the source is not there, or the local disk does not take it.
        ProtocolError: the node breaks the rules (a wrong hash, a name twice, more than it announced).
        ConnectionLost and others: as ``call_program``.

    On cancellation, and whenever it fails, whole files stay and nothing half-done has a final name.
    """
    check_remote_path(source, "sync_results source")
    limits = limits or CollectLimits()
    path = Path(target).expanduser().absolute()  # noqa: ASYNC240 - text only
    with stage(remote, "collect", source) as this:
        try:
            with Target(path) as local:
                done = await _Collect(remote, source, local, limits).run()
        except OSError as error:
            raise _local_failure(remote, path, error) from error
        this.detail = f"{done.files} files, {done.bytes_received / 1e6:.1f} MB received"
    for name, reason in done.skipped[:3]:
        remote.emit(Noted(node=remote.node.name, text=f"left behind: {name}: {reason}"))
    return done


def _local_failure(remote: Remote, path: Path, error: OSError) -> TransferFailed:
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next((folder for folder in (path, *path.parents) if folder.exists()), path)
        hint = f"{shutil.disk_usage(there).free / 1e9:.1f} GB are free there"
    return TransferFailed(remote.node.name, f"{path} on this machine: {error.strerror or error}", hint, "", str(path))


async def _in_portions(work: Generator[None, None, None]) -> None:
    """Do disk work in a thread; between two portions a cancellation is felt, and then nothing of it runs on."""

    def some() -> bool:
        end = time.monotonic() + PORTION_S
        return any(time.monotonic() > end for _ in work)

    try:
        while await anyio.to_thread.run_sync(some):
            pass
    finally:
        work.close()


@attrs.frozen
class Want:
    """What we asked of a file: the bytes from ``offset`` on, if those before have this sha256."""

    entry: Entry
    offset: int = 0
    known: bytes = b"\0" * 32


@attrs.define
class Arrival:
    """A file that comes; ``partial`` is there from its first byte on, or never if all of it was here."""

    number: int
    want: Want
    offset: int
    partial: Partial | None = None


class _Collect:
    """One node's collect: what it listed, what we want of it, what came."""

    def __init__(self, remote: Remote, source: str, local: Target, limits: CollectLimits) -> None:
        self.remote = remote
        self.source = source
        self.local = local
        self.limits = limits
        self.include, self.exclude = Patterns(limits.include), Patterns(limits.exclude)
        self.listing = Listing(remote.node.name, limits)
        self.wanted: dict[int, Want] = {}
        self.links: list[Entry] = []
        self.arrival: Arrival | None = None
        self.files = self.received = self.bytes_received = self.shown = 0
        self.total = 0

    async def run(self) -> Collected:
        async with await self._open() as call:
            if (reason := await self._read_listing(call)) is not None:
                what = f"{self.source} on the node cannot be collected: {reason}"
                raise TransferFailed(self.remote.node.name, what, path=self.source)
            await _in_portions(self._choose())
            with anyio.move_on_after(self.limits.timeout_s) as in_time:
                await self._ask(call)
                await self._receive(call)
            if in_time.cancelled_caught:
                self._give_up_late()
        await _in_portions(self._put_links())
        return Collected(
            self.remote.node.name,
            self.source,
            self.local.path,
            self.files,
            self.received,
            self.bytes_received,
            self.listing.left_behind.all(),
        )

    async def _open(self) -> AbstractAsyncContextManager[Call | PlainSender]:
        if not await has_python(self.remote):
            return open_sender(self.remote, self.source, self.limits)
        request = {**attrs.asdict(self.limits), "source": self.source, "max_listing": MAX_LISTING_BYTES}
        return call_program(self.remote, "collect.sender", json.dumps(request).encode())

    async def _read_listing(self, call: Call | PlainSender) -> str | None:
        """Take the node's listing; return why there is none, or None."""
        while True:
            kind, payload = await call.receive()
            if kind == b"L":
                self.listing.take(payload)
            elif kind == b"N":
                self.listing.take_left_behind(payload)
            elif kind == b"M":
                return None
            elif kind == b"Z":
                return last_lines(payload, 1) or "the node does not say why"
            else:
                raise self._nonsense(f"a frame {kind!r} in a listing")

    # --- what we want --------------------------------------------------------------

    def _choose(self) -> Generator[None, None, None]:
        """Look at what is here, make the folders, and decide what to ask for."""
        budget = self.limits.max_bytes
        folded: set[str] = set()
        for number, entry in enumerate(self.listing.entries):
            yield
            if not self._is_asked_for(entry):
                continue
            reason = self._refusal(entry, folded)
            if reason is not None:
                self.listing.left_behind.add(entry.path, reason)
            elif entry.kind == "d":
                self.local.folder(entry.path, entry.mode)
            elif entry.kind == "l":
                self.links.append(entry)
            elif self._is_here(entry):
                self.files += 1
            else:
                want = yield from self._want(entry)
                travels = entry.size - want.offset
                if travels > budget:
                    reason = f"over the budget of {self.limits.max_bytes} bytes"
                    self.listing.left_behind.add(entry.path, reason)
                    continue
                budget -= travels
                self.total += travels
                self.wanted[number] = want

    def _is_asked_for(self, entry: Entry) -> bool:
        """Whether the patterns ask for it; a folder is made for what is in it."""
        path, folder = os.fsdecode(entry.path), entry.kind == "d"
        return (not self.include or self.include.match(path, folder=folder)) and not self.exclude.match(
            path, folder=folder
        )

    def _refusal(self, entry: Entry, folded: set[str]) -> str | None:
        reason = why_not(entry.path, self.limits.max_depth)
        if reason is not None:
            return reason
        if entry.kind == "l" and link_escapes(entry.path, entry.target):
            return "a link that may lead out of the folder"
        if self.limits.max_file_bytes is not None and entry.size > self.limits.max_file_bytes:
            return f"larger than {self.limits.max_file_bytes} bytes"
        if self.local.folds_case:
            name = os.fsdecode(entry.path).casefold()
            if name in folded:
                return "this disk does not tell its name from another one's"
            folded.add(name)
        try:
            here = self.local.look(entry.path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            return f"its folder on this machine: {error.strerror}"
        if here is not None and (entry.kind == "d") != stat.S_ISDIR(here.st_mode):
            return "something of another kind stands there on this machine"
        return None

    def _is_here(self, entry: Entry) -> bool:
        here = self.local.look(entry.path)
        return here is not None and is_file(here) and (here.st_size, here.st_mtime_ns) == (entry.size, entry.mtime_ns)

    def _want(self, entry: Entry) -> Generator[None, None, Want]:
        """What stands here may be the beginning of the node's file, or all of it with another time."""
        here = self.local.look(entry.path)
        if here is None or not is_file(here) or not 0 < here.st_size <= entry.size:
            return Want(entry)
        sha = hashlib.sha256()
        yield from self.local.hash_beginning(entry.path, here.st_size, sha)
        return Want(entry, here.st_size, sha.digest())

    async def _ask(self, call: Call | PlainSender) -> None:
        asked = [
            number.to_bytes(4, "big") + want.offset.to_bytes(8, "big") + want.known
            for number, want in self.wanted.items()
        ]
        for at in range(0, len(asked), ASKED_AT_ONCE):
            call.send(b"W", b"".join(asked[at : at + ASKED_AT_ONCE]))
            await call.drain()
        call.send(b"Y")

    # --- what comes ------------------------------------------------------------------

    async def _receive(self, call: Call | PlainSender) -> None:
        try:
            while True:
                kind, payload = await call.receive()
                if kind == b"D" and self.arrival is not None and payload:
                    await self._write(self.arrival, payload)
                elif kind == b"B" and self.arrival is None and len(payload) == 12:
                    self._begin(payload)
                elif kind == b"T" and self.arrival is not None and len(payload) == 44:
                    self._finish(self.arrival, payload)
                elif kind == b"X" and len(payload) >= 4:
                    self._give_up(payload)
                elif kind == b"Z" and self.arrival is None and not self.wanted:
                    break
                else:
                    raise self._nonsense(f"a frame {kind!r} where none may be")
        finally:
            if self.arrival is not None:
                self.wanted[self.arrival.number] = self.arrival.want
            self._abandon()
        if self.shown < self.bytes_received:
            self._show()

    def _begin(self, payload: bytes) -> None:
        number, offset = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:], "big")
        want = self.wanted.pop(number, None)
        if want is None or offset not in (0, want.offset):
            raise self._nonsense("a file that was not asked for")
        self.arrival = Arrival(number, want, offset)

    async def _write(self, arrival: Arrival, data: bytes) -> None:
        # A file may have grown since it was listed: what it may bring is what the budget has left, as the sender knows.
        if self.bytes_received + len(data) > self.limits.max_bytes:
            raise self._nonsense(f"more of {os.fsdecode(arrival.want.entry.path)!r} than the budget allows")
        if arrival.partial is None:
            arrival.partial = self.local.begin(arrival.want.entry.path)
            if arrival.offset:
                known = self.local.copy_beginning(arrival.partial, arrival.offset, arrival.want.known)
                await _in_portions(known)
        if len(data) > SMALL_BYTES:
            await anyio.to_thread.run_sync(arrival.partial.write, data)
        else:
            arrival.partial.write(data)
        self.bytes_received += len(data)
        if self.bytes_received - self.shown >= SHOW_BYTES:
            self._show()

    def _finish(self, arrival: Arrival, trailer: bytes) -> None:
        entry, mtime_ns = arrival.want.entry, int.from_bytes(trailer[32:], "big", signed=True)
        if arrival.partial is None and arrival.offset:
            self._check(entry, arrival.want.known, trailer)
            self.local.renew(entry.path, entry.mode, mtime_ns)
        else:
            partial = arrival.partial or self.local.begin(entry.path)
            arrival.partial = partial
            self._check(entry, partial.sha.digest(), trailer)
            arrival.partial = None
            self.local.finish(partial, entry.mode, mtime_ns)
            self.received += 1
        self.files += 1
        self.arrival = None

    def _check(self, entry: Entry, digest: bytes, trailer: bytes) -> None:
        if digest != trailer[:32]:
            name = os.fsdecode(entry.path)
            raise self._nonsense(f"a content of {name!r} that does not have the hash that it says")

    def _give_up(self, payload: bytes) -> None:
        """The node cannot send a file, or not to its end."""
        number = int.from_bytes(payload[:4], "big")
        if self.arrival is not None and self.arrival.number == number:
            want = self.arrival.want
            self._abandon()
        elif self.arrival is None and number in self.wanted:
            want = self.wanted.pop(number)
        else:
            raise self._nonsense("word of a file that was not asked for")
        self.listing.left_behind.add(want.entry.path, last_lines(payload[4:], 1) or "the node does not say why")

    def _give_up_late(self) -> None:
        """The time is over: what has not come is left behind."""
        for want in self.wanted.values():
            self.listing.left_behind.add(want.entry.path, f"over the budget of {self.limits.timeout_s:g} s")

    def _abandon(self) -> None:
        arrival, self.arrival = self.arrival, None
        if arrival is not None and arrival.partial is not None:
            self.local.abandon(arrival.partial)

    def _show(self) -> None:
        self.shown = self.bytes_received
        name = self.remote.node.name
        self.remote.emit(BytesMoved(node=name, stage="collect", done=self.bytes_received, total=self.total))

    def _put_links(self) -> Generator[None, None, None]:
        """Links come last, so that nothing is ever written through one."""
        for entry in self.links:
            yield
            self.received += self.local.link(entry.path, entry.target)
            self.files += 1

    def _nonsense(self, what: str) -> ProtocolError:
        return nonsense(self.remote.node.name, what)
