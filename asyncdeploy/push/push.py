"""Local -> node: put a workspace on a node, whole, sending only what is not there yet."""

from __future__ import annotations

import operator
import struct
from collections.abc import Awaitable
from pathlib import Path

import anyio

from asyncdeploy.push.answer import Answer, read_answer
from asyncdeploy.push.bundle.bundle import Bundle, pack_workspace
from asyncdeploy.push.bundle.pieces import DIGEST, SHORT, Run, pack_runs, runs_of
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.push.relay.feed import Feed
from asyncdeploy.push.sh.push import finish_plain, push_plain
from asyncdeploy.remote.frames import MAX_FRAME
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call, call_once, call_program, has_python
from asyncdeploy.values.errors import DeployError, ProtocolError
from asyncdeploy.values.events import Noted, visible
from asyncdeploy.values.workspace import Site, Workspace, check_remote_path

__all__ = ["Bundle", "finish_push", "pack_workspace", "push_code"]

LOCK_WAIT_S = 60.0
"""How long a push waits for another one: most are over in seconds."""
STAGE = "push"
RUNS_FRAME = 5 * 100_000
"""Bytes of runs in one frame: below what a frame may hold."""


async def push_code(
    remote: Remote, workspace: Workspace | Bundle | Crew | Path | str, *, wait_s: float = LOCK_WAIT_S
) -> Site:
    """Put a workspace on a node and return where it stands.

    An unchanged tree costs one request and one answer. Otherwise only contents that the node lacks travel; they are
    verified there before the new tree replaces the old one, under a journal. What we did not bring is never touched.

    Args:
        remote: the node.
        workspace: a Workspace or folder; or a Bundle, which is scanned once and serves many nodes; or a Crew of them.
        wait_s: seconds to wait while another deployer holds the site.

    Raises:
        WorkspaceConflict: it is another project's, not ours, or files were edited there (see Workspace.on_conflict).
        WorkspaceBusy: another deployer holds the site, or a job runs in it (see Workspace.under_jobs).
        NodeFull: no room; the old tree stands.
        TransferFailed: a file cannot be read here or written there.
        ConnectionLost: the connection broke; the node has the old tree or the new one.
        NoShell, ConnectError, AuthError, HostKeyError: nothing was changed.

    On cancellation contents that arrived stay staged for the next push; the old tree stands, or the new one if all was
    verified.
    """
    if isinstance(workspace, Crew):
        return await _push(remote, workspace, wait_s)
    if isinstance(workspace, Bundle):
        return await _push(remote, Crew(workspace), wait_s)
    async with pack_workspace(workspace) as bundle:
        return await _push(remote, Crew(bundle), wait_s)


async def finish_push(remote: Remote, path: str, *, wait_s: float = LOCK_WAIT_S) -> None:
    """Finish a swap that a dead push left begun in a site; asked once a connection, and not after a push over it.

    Only a receiver that is killed leaves a swap begun, which is to say a node that dies, and its connections with it:
    over the one that brought a site whole there is nothing to ask.

    Args:
        remote: the node.
        path: the site: absolute, or "~/...".
        wait_s: seconds to wait while a deployer holds the site.

    Raises:
        WorkspaceBusy, NodeFull, TransferFailed, ConnectionLost: as ``push_code``.
    """
    check_remote_path(path, "site path")
    whole = _whole_sites(remote)
    if path in whole:
        return
    if not await has_python(remote):
        answer = read_answer(remote.node.name, await finish_plain(remote, path, wait_s))
        whole.update((path, answer.path))
        return
    args = b"\0".join([b"finish", path.encode("utf-8", "surrogateescape"), *[b""] * 6, b"%g" % wait_s])
    answer = read_answer(remote.node.name, await call_once(remote, "push.receiver", args))
    whole.update((path, answer.path))


def _whole_sites(remote: Remote) -> set[str]:
    """Return the sites that we know to hold no begun swap, by path; forgotten with the connection."""
    whole = remote.memory.setdefault("whole sites", set())
    assert isinstance(whole, set)
    return whole


async def _push(remote: Remote, crew: Crew, wait_s: float) -> Site:
    node = remote.node.name
    try:
        push = _push_to_receiver if await has_python(remote) else _push_to_script
        bundle = await crew.scanned()
        with stage(remote, STAGE) as ours:
            for note in bundle.take_notes():
                remote.emit(Noted(node=node, text=visible(note)))
            answer, ours.detail = await push(remote, crew, wait_s)
            for text in answer.notes():
                remote.emit(Noted(node=node, text=visible(text)))
            _whole_sites(remote).add(answer.path)
            return Site(answer.path, bundle.digest, bundle.workspace.project)
    finally:
        crew.gone(node)


async def _push_to_receiver(remote: Remote, crew: Crew, wait_s: float) -> tuple[Answer, str]:
    transfer = _Transfer(remote, crew)
    async with call_program(remote, "push.receiver", _arguments(crew.bundle, wait_s)) as call:
        answer = read_answer(remote.node.name, await transfer.run(call))
    return answer, transfer.detail(answer)


async def _push_to_script(remote: Remote, crew: Crew, wait_s: float) -> tuple[Answer, str]:
    crew.gone(remote.node.name)
    payload, sent = await push_plain(remote, crew.bundle, wait_s)
    answer = read_answer(remote.node.name, payload)
    return answer, _detail(answer, sent)


def _arguments(bundle: Bundle, wait_s: float) -> bytes:
    workspace = bundle.workspace
    fields = ["push", workspace.site_path, bundle.digest, bundle.project, bundle.label, bundle.holder]
    fields += [workspace.on_conflict, workspace.under_jobs, f"{wait_s:g}"]
    return "\0".join(fields).encode("utf-8", "surrogateescape")


class _Transfer:
    """What the node asks for, and our answers to it, until it is done."""

    def __init__(self, remote: Remote, crew: Crew) -> None:
        self.remote = remote
        self.crew = crew
        self.bundle = crew.bundle
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
                raise ProtocolError(self.remote.node.name, f"a push was asked for {kind!r}")

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
            raise ProtocolError(self.remote.node.name, "a push was asked for contents that there are not")
        return found

    def take_base(self, payload: bytes, wanted: list[int]) -> None:
        """Remember what the node has of a large content that it wants: the first bytes of its pieces' digests."""
        number = int.from_bytes(payload[:4], "big")
        if number not in wanted:
            raise ProtocolError(self.remote.node.name, "a push was told of a content that is not wanted")
        base = self.bases.setdefault(number, bytearray())
        base += payload[4:]
        if len(base) > len(self.bundle.pieces(number)) // DIGEST * SHORT:
            raise ProtocolError(self.remote.node.name, "a push was told of more pieces than a content has")

    async def send_runs(self, call: Call, wanted: list[int]) -> dict[int, tuple[Run, ...]]:
        """Tell the node where each piece of its large contents comes from."""
        found = {}
        for number in wanted:
            if digests := self.bundle.pieces(number):
                base = bytes(self.bases.get(number, b""))
                found[number] = runs = await anyio.to_thread.run_sync(runs_of, digests, base)
                data = pack_runs(runs)
                for start in range(0, len(data), RUNS_FRAME):
                    call.send(b"K", number.to_bytes(4, "big") + data[start : start + RUNS_FRAME])
                    await call.drain()
        return found

    async def send_contents(self, call: Call, wanted: list[int]) -> bytes:
        """See to it that contents reach the node until all are there or it has had enough; return its answer."""
        runs = await self.send_runs(call, wanted)
        blocks = await anyio.to_thread.run_sync(self.bundle.blocks, wanted, runs)
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
                raise ProtocolError(self.remote.node.name, f"a push was answered with {kind!r}")

    def detail(self, answer: Answer) -> str:
        feed = self.feed
        if self.shares_disk and not answer.changed:
            return "= pushed through another node, which shares its disk"
        words = [_detail(answer, feed.sent if feed else 0)]
        if feed is not None and feed.relayed:
            words.append("by other nodes")
        if feed is not None and feed.direct_because:
            words.append(f"directly: {feed.direct_because}")
        return ", ".join(words)


def _detail(answer: Answer, sent: int) -> str:
    if not answer.changed:
        return "= unchanged"
    text = f"{answer.placed} files, {_amount(sent)}"
    return f"{text}, {answer.removed} removed" if answer.removed else text


def _named(error: DeployError, node: str) -> DeployError:
    """An error of our own disk has no node yet: the one whose push it ended."""
    error.node = error.node or node
    return error


def _amount(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
