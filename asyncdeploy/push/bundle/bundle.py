"""A workspace made ready for many nodes: scanned and hashed once, each piece compressed at most once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import secrets
import tempfile
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from asyncdeploy.push.bundle.blocks import BLOCK, Block, BlockList, Piece
from asyncdeploy.push.bundle.manifest import Manifest
from asyncdeploy.push.bundle.needed import check_needed
from asyncdeploy.push.bundle.packing import LEVEL, PackedBlocks
from asyncdeploy.push.bundle.pieces import Run, is_large, sent_ranges
from asyncdeploy.push.bundle.project import project_ids
from asyncdeploy.push.bundle.scan import Listing, changed, list_workspace
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.tasks.threads import run_in_thread, stop_event
from asyncdeploy.values.account import user_name
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.workspace import Workspace, as_workspace


class Bundle:
    """A scanned workspace; ``pack_workspace`` makes one. It serves many nodes at once while its context lasts.

    Attributes:
        workspace: what was scanned.
        manifest: its tree.
        project: what tells this project from another (see ``project.project_id``).
        was: what it would be without its own name, "" where it has none.
        label: the same for people: "folder on machine".
        holder: which push this is, for those who wait: "user@machine pid 7 (push 1f0c3e5a)".
        seconds: how long the scan took.
    """

    def __init__(
        self, workspace: Workspace, listing: Listing, project: tuple[str, str], store: BinaryIO, seconds: float
    ) -> None:
        self.workspace = workspace
        self.manifest: Manifest = listing.manifest
        self.project, self.was = project
        self.label = f"{workspace.path} on {platform.node()}"
        self.holder = f"{user_name() or os.getuid()}@{platform.node()} pid {os.getpid()} (push {secrets.token_hex(4)})"
        self.seconds = seconds
        self._stamps = listing.stamps
        self._pieces = listing.pieces
        self._notes = listing.notes
        self._plain: dict[int, str] = {}
        self._blocks = PackedBlocks(self.read, store)
        self._packing = asyncio.Lock()
        self._packed = b""
        self._cutting = threading.Lock()
        self._lists = WeakValueDictionary[bytes, BlockList]()

    @property
    def digest(self) -> str:
        """Names the tree."""
        return self.manifest.digest

    async def packed_manifest(self) -> bytes:
        """Return the manifest as it travels: compressed, once for all nodes and off the loop."""
        async with self._packing:
            if not self._packed:
                self._packed = await run_in_thread(lambda: zlib.compress(self.manifest.to_bytes(), LEVEL))
        return self._packed

    def take_notes(self) -> tuple[str, ...]:
        """Return what a person should know of the scan, the first time only: it is the same for every node."""
        notes, self._notes = self._notes, ()
        return notes

    def pieces(self, number: int) -> bytes:
        """Return the sha256 of the pieces of a large content; none for a small one."""
        return self._pieces.get(self.manifest.contents[number].path, b"")

    def plain_sha256(self, number: int) -> str:
        """Return the sha256 of a content as ``sha256sum`` prints it; it reads a large one, so call it in a thread.

        Raises:
            TransferFailed: the file is no longer what was scanned.
        """
        content = self.manifest.contents[number]
        if not is_large(content.size):
            return content.sha256
        if number not in self._plain:
            hashed = hashlib.sha256()
            for start in range(0, content.size, BLOCK):
                hashed.update(self.read(Piece(number, start, min(BLOCK, content.size - start))))
            self._plain[number] = hashed.hexdigest()
        return self._plain[number]

    def blocks(self, numbers: Sequence[int], runs: Mapping[int, tuple[Run, ...]]) -> BlockList:
        """Return what travels of contents as blocks, in a thread; nodes that need the same share one and the same list.

        Args:
            numbers: which contents.
            runs: of the large ones.
        """
        wanted = BlockList(self._ranges(numbers, runs))
        with self._cutting:  # of sixteen nodes that need the same one cuts, and the others wait for that
            return self._lists.setdefault(wanted.fingerprint(), wanted).cut()

    def _ranges(self, numbers: Sequence[int], runs: Mapping[int, tuple[Run, ...]]) -> Iterator[Piece]:
        for number in numbers:
            size = self.manifest.contents[number].size
            for start, length in sent_ranges(runs[number], size) if number in runs else ((0, size),):
                yield Piece(number, start, length)

    async def packed(self, block: Block, rate: float = 0.0) -> bytes:
        """Return a block as it travels, see ``PackedBlocks.get``."""
        return await self._blocks.get(block, rate)

    async def proof(self, block: Block) -> bytes:
        """Return the sha256 of a block as it travels."""
        return await self._blocks.proof(block)

    def read(self, piece: Piece) -> bytes:
        """Return a part of a content from the disk, so call it in a thread.

        Raises:
            TransferFailed: the file is no longer what was scanned.
        """
        path = self.manifest.contents[piece.content].path
        try:
            # Not blocking: a pipe may stand there by now, and its open waits for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(f"{os.fspath(self.workspace.path)}/{path}", flags)
        except OSError:
            raise changed(path) from None
        try:
            data = os.pread(fd, piece.length, piece.start)
            if len(data) == piece.length and self._stamps[path].is_of(os.fstat(fd)):
                return data
            raise changed(path)
        except OSError:  # it is a folder by now, or a pipe
            raise changed(path) from None
        finally:
            os.close(fd)


@asynccontextmanager
async def begin_packing(workspace: Workspace, needed: str = "") -> AsyncIterator[asyncio.Future[Bundle]]:
    """Scan and hash a workspace in a thread, so that nodes can be connected to meanwhile.

    Args:
        workspace: what to push.
        needed: a path below its top that must be among what is sent, or the scan fails with ValueError.

    Returns:
        The bundle, once it is there; it is good until the context ends. Shield it: others may be waiting for it too.
    """
    with tempfile.TemporaryFile(prefix="asyncdeploy-", buffering=0) as store:
        scan = asyncio.get_running_loop().create_task(run_in_thread(_scan, workspace, store, needed))
        scan.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody need be waiting for it
        try:
            yield scan
        finally:
            scan.cancel()
            await finish(asyncio.wait((scan,)), BACK_S)


@checked
@asynccontextmanager
async def pack_workspace(workspace: Workspace | Path | str) -> AsyncIterator[Bundle]:
    """Scan and hash a workspace, and hold it ready for pushes until the context ends.

    Contents are read when a node needs them and compressed at most once, into an unlinked temporary file.

    Args:
        workspace: a Workspace, or a folder with the defaults.

    Raises:
        TransferFailed: a file cannot be read, keeps changing or has a name that no node can hold; or git failed.
        ToolMissing: the folder is in git, and git is not installed.

    On cancellation the scan ends within a block of a file.
    """
    async with begin_packing(as_workspace(workspace)) as scan:
        yield await asyncio.shield(scan)


def _scan(workspace: Workspace, store: BinaryIO, needed: str) -> Bundle:
    start = time.monotonic()
    listing = list_workspace(workspace, stop_event())
    if needed:
        check_needed(listing.manifest, workspace, needed)
    _ = listing.manifest.digest, listing.manifest.contents  # worked out here, off the loop
    return Bundle(workspace, listing, project_ids(workspace.path), store, time.monotonic() - start)
