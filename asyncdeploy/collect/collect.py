"""Results home: node -> local, incremental, verified; the node's words are never trusted."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import attrs

from asyncdeploy.collect.arrivals import Arrivals
from asyncdeploy.collect.choice import Choice, Want
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import MAX_LISTING_BYTES, Entry, Listing, nonsense
from asyncdeploy.collect.portions import in_portions
from asyncdeploy.collect.sender_sh import ShSender, open_sender
from asyncdeploy.collect.target import Target, why_on_disk
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call, call_program
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.tasks.turns import Turns
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.events import Noted
from asyncdeploy.values.words import last_lines
from asyncdeploy.values.workspace import Collected, check_remote_path

ASKED_BYTES = 220_000
"""Of wanted files in one frame, 5,000 of them: far below the 1 MiB that a frame may hold."""
ENTRIES_A_FRAME = 1000
"""About so many are in one frame of a listing."""
NOT_THERE = (
    "paths are relative to the project's folder on the node: run_in_project(pool, deployment, 'ls') shows it, as does "
    "asyncdeploy ssh RUN"
)


@checked
async def sync_results(
    remote: Remote,
    source: str,
    target: Path | str,
    *,
    limits: CollectLimits | None = None,
    allow_partial: bool = False,
) -> Collected:
    """Bring a folder or file of a node home, all that was asked for or CollectIncomplete; nothing travels twice.

    A file of the same size and mtime is taken as the same. Of a file that grew only the tail travels; one whose
    beginning changed comes whole.

    Args:
        remote: the node.
        source: absolute path on the node, or "~/...".
        target: local folder, made where it is missing; nothing in it is deleted.
        limits: what of it comes, and bounds on what is accepted.
        allow_partial: take what there is; what does not come is only told.

    Returns:
        What came, and what was left behind and why: odd entries, refused names, budgets, files that changed meanwhile.

    Raises:
        CollectIncomplete: without ``allow_partial``: some of it did not come; its ``collected`` says what did.
        TransferFailed: the source is not there, or the local disk does not take it.
        ProtocolError: the node breaks the rules (a wrong hash, a name twice, more than it announced).
        ConnectionLost and others: as ``call_program``.

    On cancellation, and whenever it fails, whole files stay and nothing half-done has a final name; of the folders that
    were made for it those in which nothing stands go again.
    """
    check_remote_path(source, "sync_results source")
    limits = limits or CollectLimits()
    path = Path(target).expanduser().absolute()  # noqa: ASYNC240 - text only
    with stage(remote, "collect", source) as this:
        try:
            async with _opened(path) as local:
                done = await _Collect(remote, source, local, limits).run()
                this.detail = f"{done.files} files, {done.bytes_received / 1e6:.1f} MB received"
                for text in _notes(done, local):
                    remote.emit(Noted(node=remote.node.name, text=text))
                return done if allow_partial else done.check()
        except OSError as error:
            raise _local_failure(remote, path, error) from error


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[Target]:
    """Open the local folder; where the collect fails, what was made of it and stayed empty goes again."""
    with Target(path) as local:
        try:
            yield local
        except BaseException:
            await finish(in_portions(local.take_back()), BACK_S)
            raise


def _notes(done: Collected, local: Target) -> list[str]:
    """Return what people should know of a collect, whether it is complete or not."""
    lost = [f"left behind: {name}: {reason}" for name, reason in done.skipped[:3]]
    return [*lost, *(f"{local.path} keeps no {what} of files: {why}" for what, why in local.lacks.items())]


def _local_failure(remote: Remote, path: Path, error: OSError) -> TransferFailed:
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next((folder for folder in (path, *path.parents) if folder.exists()), path)
        hint = f"{shutil.disk_usage(there).free / 1e9:.1f} GB are free there"
    return TransferFailed(remote.node.name, f"{path} on this machine: {error.strerror or error}", hint, "", str(path))


class _Collect:
    """The talk with one node: what it lists, what we ask of it, what comes."""

    def __init__(self, remote: Remote, source: str, local: Target, limits: CollectLimits) -> None:
        self.remote = remote
        self.source = source
        self.local = local
        self.limits = limits
        self.listing = Listing(remote.node.name, limits)

    async def run(self) -> Collected:
        choice = Choice(self.listing, self.local, self.limits)
        async with await self._open() as call:
            if (reason := await self._read_listing(call)) is not None:
                what = f"{self.source} on the node cannot be collected: {reason}"
                raise TransferFailed(
                    self.remote.node.name, what, NOT_THERE if "No such file" in reason else "", path=self.source
                )
            await in_portions(choice.make())
            arrivals = Arrivals(self.remote, self.local, self.limits, choice.wanted, self.listing.left_behind)
            with anyio.move_on_after(self.limits.timeout_s) as in_time:
                await self._ask(call, choice.wanted)
                await arrivals.receive(call)
            if in_time.cancelled_caught:
                for want in arrivals.missing.values():
                    self.listing.left_behind.add(want.entry.path, f"over the budget of {self.limits.timeout_s:g} s")
        links, new_links = await in_portions(self._put_links(choice.links))
        return Collected(
            self.remote.node.name,
            self.source,
            self.local.path,
            choice.here + arrivals.renewed + arrivals.received + links,
            arrivals.received + new_links,
            arrivals.bytes_received,
            self.listing.left_behind.all(),
            self.listing.left_behind.missing,
        )

    async def _open(self) -> AbstractAsyncContextManager[Call | ShSender]:
        if not await has_python(self.remote):
            return open_sender(self.remote, self.source, self.limits)
        request = {**attrs.asdict(self.limits), "source": self.source, "max_listing": MAX_LISTING_BYTES}
        return call_program(self.remote, "collect.sender", json.dumps(request).encode())

    async def _read_listing(self, call: Call | ShSender) -> str | None:
        """Take the node's listing; return why it has none, or None."""
        turns = Turns()
        while True:
            kind, payload = await call.receive()
            if turns.over(ENTRIES_A_FRAME):
                await turns.next()
            if kind == b"L":
                self.listing.take(payload)
            elif kind == b"N":
                self.listing.take_left_behind(payload)
            elif kind == b"M":
                return None
            elif kind == b"Z":
                return last_lines(payload, 1) or "the node does not say why"
            else:
                raise nonsense(self.remote.node.name, f"a frame {kind!r}, where its listing was expected")

    async def _ask(self, call: Call | ShSender, wanted: Mapping[int, Want]) -> None:
        asked, turns = bytearray(), Turns()
        for number, want in wanted.items():
            asked += number.to_bytes(4, "big") + want.offset.to_bytes(8, "big") + want.known
            if len(asked) >= ASKED_BYTES:
                call.send(b"W", bytes(asked))
                asked.clear()
                await call.drain()
            if turns.over():
                await turns.next()
        if asked:
            call.send(b"W", bytes(asked))
        call.send(b"Y")

    def _put_links(self, links: Sequence[Entry]) -> Generator[None, None, tuple[int, int]]:
        """Make links, last of all, so that nothing is ever written through one; return how many stand, and are new."""
        here = new = 0
        for entry in links:
            yield
            try:
                new += self.local.link(entry.path, entry.target)
                here += 1
            except OSError as error:
                self.listing.left_behind.add(entry.path, why_on_disk(error))
        return here, new
