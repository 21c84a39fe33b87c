"""Results home: node -> local, incremental, verified; the node's words are never trusted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path

import anyio.to_thread
import attrs

from asyncdeploy.command import last_lines
from asyncdeploy.errors import ProtocolError, TransferFailed
from asyncdeploy.events import BytesMoved, Noted
from asyncdeploy.extract import Partial, Target, hash_beginning, is_file, link_escapes, remove_parts, why_not
from asyncdeploy.stage import stage
from asyncdeploy.sync_plain import sync_plain
from asyncdeploy.transport import Remote
from asyncdeploy.worker import Call, call_program, has_python
from asyncdeploy.workspace import Collected, check_remote_path

SHOW_BYTES = 4 << 20
"""A BytesMoved event for so many bytes: smooth for a bar, nothing for the loop."""
MAX_SKIPPED = 1000
"""Reasons kept by name; a node with more to hide has made its point."""
ENTRY = 29
"""Bytes of an entry before its path: kind, mode, size, mtime, length."""


@attrs.frozen
class CollectLimits:
    """Bounds on what one node may send home.

    Attributes:
        max_bytes: of content, in one collect; files beyond it are left behind and reported.
        max_files: entries; the rest is left behind and reported.
        max_depth: folders in folders.
    """

    max_bytes: int = 1 << 40
    max_files: int = 200_000
    max_depth: int = 64


@attrs.frozen
class Entry:
    """What the node says stands at a path below the source."""

    kind: str
    mode: int
    size: int
    mtime_ns: int
    path: bytes
    target: bytes


async def sync_results(
    remote: Remote, source: str, target: Path | str, *, limits: CollectLimits | None = None
) -> Collected:
    """Bring a folder or file of a node home; what is here already does not travel.

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
            await anyio.to_thread.run_sync(remove_parts, path)
            with Target(path) as local:
                if await has_python(remote):
                    done = await _Collect(remote, source, local, limits).run()
                else:
                    done = await sync_plain(remote, source, local)
        except OSError as error:
            raise _local_failure(remote, path, error) from error
        this.detail = f"{done.files} files, {done.bytes_received / 1e6:.1f} MB received"
    for name, reason in done.skipped[:3]:
        remote.emit(Noted(node=remote.node.name, text=f"left behind: {name}: {reason}"))
    return done


def _local_failure(remote: Remote, path: Path, error: OSError) -> TransferFailed:
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"{shutil.disk_usage(path).free / 1e9:.1f} GB are free there"
    return TransferFailed(remote.node.name, f"{path} on this machine: {error.strerror or error}", hint, "", str(path))


class _Collect:
    """One node's collect: what it listed, what we want of it, what came."""

    def __init__(self, remote: Remote, source: str, local: Target, limits: CollectLimits) -> None:
        self.remote = remote
        self.source = source
        self.local = local
        self.limits = limits
        self.entries: list[Entry] = []
        self.seen: set[bytes] = set()
        self.skipped: list[tuple[str, str]] = []
        self.left_out = 0
        self.files = self.received = self.bytes_received = self.shown = 0
        self.total = 0

    async def run(self) -> Collected:
        request = {"source": self.source, "max_files": self.limits.max_files, "max_depth": self.limits.max_depth}
        async with call_program(self.remote, "sender", json.dumps(request).encode()) as call:
            if (reason := await self._read_listing(call)) is not None:
                what = f"{self.source} on the node cannot be collected: {reason}"
                raise TransferFailed(self.remote.node.name, what, path=self.source)
            wanted = await anyio.to_thread.run_sync(self._choose)
            for block in wanted:
                call.send(b"W", block)
                await call.drain()
            call.send(b"Y")
            await self._receive(call)
        self._put_links()
        if self.left_out > len(self.skipped):
            self.skipped.append(("...", f"{self.left_out - len(self.skipped)} more"))
        return Collected(
            self.remote.node.name,
            self.source,
            self.local.path,
            self.files,
            self.received,
            self.bytes_received,
            tuple(self.skipped),
        )

    # --- the listing -------------------------------------------------------------

    async def _read_listing(self, call: Call) -> str | None:
        """Take the node's listing; return why there is none, or None."""
        while True:
            kind, payload = await call.receive()
            if kind == b"L":
                self._take_entries(payload)
            elif kind == b"N":
                name, _, why = payload.partition(b"\0")
                self._skip(name, last_lines(why, 1) or "the node does not say why")
            elif kind == b"M":
                return None
            elif kind == b"Z":
                return last_lines(payload, 1) or "the node does not say why"
            else:
                raise self._nonsense(f"a frame {kind!r} in a listing")

    def _take_entries(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            entry, at = self._entry(data, at)
            if len(self.entries) >= self.limits.max_files:
                raise self._nonsense(f"more than the {self.limits.max_files} entries that it was allowed")
            if entry.path in self.seen:
                raise self._nonsense(f"the name {os.fsdecode(entry.path)!r} twice")
            self.seen.add(entry.path)
            self.entries.append(entry)

    def _entry(self, data: bytes, at: int) -> tuple[Entry, int]:
        head = data[at : at + ENTRY - 2]
        path, at = self._text(data, at + ENTRY - 4)
        target, at = self._text(data, at)
        kind = chr(head[0]) if head else ""
        if kind not in "fdl" or not path:
            raise self._nonsense("an entry that is none")
        numbers = int.from_bytes(head[1:5], "big"), int.from_bytes(head[5:13], "big")
        return Entry(kind, *numbers, int.from_bytes(head[13:25], "big", signed=True), path, target), at

    def _text(self, data: bytes, at: int) -> tuple[bytes, int]:
        size = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + size > len(data):
            raise self._nonsense("an entry that ends too early")
        return data[at + 2 : at + 2 + size], at + 2 + size

    # --- what we want --------------------------------------------------------------

    def _choose(self) -> list[bytes]:
        """Look at what is here and return what to ask for, in frames; runs in a thread, for disks are slow."""
        wanted, budget = bytearray(), self.limits.max_bytes
        for number, entry in enumerate(self.entries):
            if (reason := self._refusal(entry)) is not None:
                self._skip(entry.path, reason)
                continue
            if entry.kind == "d":
                self.local.folder(entry.path)
                continue
            if entry.kind == "l":
                continue
            here = self.local.look(entry.path)
            if here and is_file(here) and (here.st_size, here.st_mtime_ns) == (entry.size, entry.mtime_ns):
                self.files += 1
                continue
            if entry.size > budget:
                self._skip(entry.path, f"over the budget of {self.limits.max_bytes} bytes")
                continue
            budget -= entry.size
            offset, known = 0, b"\0" * 32
            if here and is_file(here) and 0 < here.st_size < entry.size:
                offset, known = here.st_size, hash_beginning(self.local, entry.path, here.st_size)
            self.total += entry.size - offset
            wanted += number.to_bytes(4, "big") + offset.to_bytes(8, "big") + known
        return [bytes(wanted[at : at + 44 * 5000]) for at in range(0, len(wanted), 44 * 5000)]

    def _refusal(self, entry: Entry) -> str | None:
        reason = why_not(entry.path, self.limits.max_depth)
        if reason is not None:
            return reason
        if entry.kind == "l" and link_escapes(entry.path, entry.target):
            return "a link that leads out of the folder"
        try:
            here = self.local.look(entry.path)
        except OSError as error:
            return f"its folder on this machine: {error.strerror}"
        if here is not None and (entry.kind == "d") != stat.S_ISDIR(here.st_mode):
            return "something of another kind stands there on this machine"
        return None

    # --- what comes ------------------------------------------------------------------

    async def _receive(self, call: Call) -> None:
        partial: Partial | None = None
        entry: Entry | None = None
        left = 0
        try:
            while True:
                kind, payload = await call.receive()
                if kind == b"D" and partial is not None:
                    left -= len(payload)
                    if left < 0:
                        raise self._nonsense(f"more of {os.fsdecode(partial.path)!r} than the budget allows")
                    partial.write(payload)
                    self._count(len(payload))
                elif kind == b"B" and partial is None and len(payload) == 12:
                    entry = self._named(payload)
                    offset = int.from_bytes(payload[4:], "big")
                    # A file may have grown since it was listed; what it may bring is what the budget has left.
                    left = self.limits.max_bytes - self.bytes_received
                    partial = await self._begin(entry, offset)
                elif kind == b"T" and partial is not None and entry is not None and len(payload) == 44:
                    done, partial = partial, None
                    self._finish(done, entry, payload)
                elif kind == b"X" and len(payload) >= 4:
                    if partial is not None:
                        self.local.abandon(partial)
                        partial = None
                    self._skip(self._named(payload).path, last_lines(payload[4:], 1))
                elif kind == b"Z" and partial is None:
                    return
                else:
                    raise self._nonsense(f"a frame {kind!r} where none may be")
        finally:
            if partial is not None:
                self.local.abandon(partial)

    async def _begin(self, entry: Entry, offset: int) -> Partial:
        if not offset:
            return self.local.begin(entry.path)
        here = self.local.look(entry.path)
        if here is None or here.st_size != offset:
            raise self._nonsense(f"an offset in {os.fsdecode(entry.path)!r} that was not asked for")
        return await anyio.to_thread.run_sync(self.local.begin, entry.path, offset)

    def _finish(self, partial: Partial, entry: Entry, trailer: bytes) -> None:
        if partial.sha.digest() != trailer[:32]:
            self.local.abandon(partial)
            raise self._nonsense(f"a content of {os.fsdecode(entry.path)!r} that does not have the hash that it says")
        self.local.finish(partial, entry.mode, int.from_bytes(trailer[32:], "big", signed=True))
        self.files += 1
        self.received += 1

    def _named(self, payload: bytes) -> Entry:
        number = int.from_bytes(payload[:4], "big")
        if number >= len(self.entries) or self._refusal(self.entries[number]) or self.entries[number].kind != "f":
            raise self._nonsense("a file that was not asked for")
        return self.entries[number]

    def _count(self, size: int) -> None:
        self.bytes_received += size
        if self.bytes_received - self.shown >= SHOW_BYTES:
            self.shown = self.bytes_received
            name = self.remote.node.name
            self.remote.emit(BytesMoved(node=name, stage="collect", done=self.bytes_received, total=self.total))

    def _put_links(self) -> None:
        """Links come last, so that nothing is ever written through one."""
        for entry in self.entries:
            if entry.kind == "l" and self._refusal(entry) is None:
                self.files += 1
                self.received += self.local.link(entry.path, entry.target)

    def _skip(self, path: bytes, reason: str) -> None:
        self.left_out += 1
        if len(self.skipped) < MAX_SKIPPED:
            name = "".join(c if c.isprintable() else "?" for c in path[:300].decode("utf-8", "replace"))
            self.skipped.append((name, reason))

    def _nonsense(self, what: str) -> ProtocolError:
        hint = "do not trust what this node sends"
        return ProtocolError(self.remote.node.name, f"while collecting, the node sent {what}", hint)
