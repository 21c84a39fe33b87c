"""Push to a node without python3: the receiver's own plan is made here, and sh does it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import anyio

from asyncdeploy.node_side.push.plan import Plan
from asyncdeploy.node_side.push.site_record import ABSENT, FILE, META, Entry, Record, Refused
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.sh.script import END, TarOf, name_staged, tree_of
from asyncdeploy.push.sh.site import ShSite
from asyncdeploy.remote.sh_session import batches, open_sh_session
from asyncdeploy.remote.transport import Remote
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.errors import DeployError, ProtocolError
from asyncdeploy.values.events import BytesMoved
from asyncdeploy.values.words import one_line

NAMES = 10
"""Names in one answer: enough to see what is meant."""
TOOLS = ("tar", "grep", "sed", "wc", "ln", "date", "id")


async def push_by_sh(remote: Remote, bundle: Bundle, wait_s: float) -> tuple[bytes, int]:
    """Put a workspace on a node by sh; only files that are not there yet travel, whole.

    Args:
        remote: a node without python3.
        bundle: what is pushed.
        wait_s: seconds to wait while another deployer holds the site.

    Returns:
        The receiver's answer (see ``push_answer``), and how many bytes of contents travelled.

    Raises:
        ToolMissing: the node has not even tar, stat or sha256sum.
        TransferFailed: a file cannot be read here.
        ConnectionLost and others: as ``open_sh_session``.

    On cancellation the old tree stands, or the new one if the swap had begun: it is finished by the next push.
    """
    async with open_sh_session(remote, "push/push", *TOOLS) as session:
        push = ShPush(remote, bundle, ShSite(session))
        try:
            return b"\0".join(await push.run(wait_s)), push.sent
        except Refused as refused:
            return b"\0".join(refused.fields), push.sent


async def finish_by_sh(remote: Remote, path: str, wait_s: float) -> bytes:
    """Finish a swap that a dead push left begun in a site, by sh.

    Args:
        remote: a node without python3.
        path: the site: absolute, or "~/...".
        wait_s: seconds to wait while a deployer holds the site.

    Returns:
        The receiver's answer.

    Raises:
        ConnectionLost and others: as ``open_sh_session``.
    """
    async with open_sh_session(remote, "push/push", *TOOLS) as session:
        site = ShSite(session)
        status, at = await session.ask("begun", path)
        if status:
            return b"same\0" + at
        try:
            await site.open(path, "", wait_s)
            await site.finish_journal()
        except Refused as refused:
            return b"\0".join(refused.fields)
        return b"same\0" + site.seen.path


class ShPush:
    """One push, from the first look to the swap."""

    def __init__(self, remote: Remote, bundle: Bundle, site: ShSite) -> None:
        self.remote = remote
        self.bundle = bundle
        self.site = site
        self.session = site.session
        self.workspace = bundle.workspace
        self.project, self.digest = os.fsencode(bundle.project), bundle.digest.encode()
        self.sent = 0

    async def run(self, wait_s: float) -> tuple[bytes, ...]:
        site, seen = self.site, self.site.seen
        await site.open(self.workspace.site_path, self.bundle.holder, wait_s, overwrite=self.overwrite)
        await site.finish_journal()
        state = await site.read_record("state")
        self.check_project(state)
        if state is not None and state.digest == self.digest and await seen.stands(state.entries):
            return b"same", seen.path
        plan = await self.make_plan(state)
        await self.check_plan(plan)
        return await self.fill(plan)

    @property
    def overwrite(self) -> bool:
        return self.workspace.on_conflict == "overwrite"

    def check_project(self, state: Record | None) -> None:
        """Refused if another project stands there."""
        ours = (self.project, os.fsencode(self.bundle.was))
        if state is not None and state.project not in ours and not self.overwrite:
            raise self.site.refused(b"conflict", b"project", state.label or state.project)

    async def make_plan(self, state: Record | None) -> Plan:
        """Look at all that the push would touch."""
        new = await run_in_thread(tree_of, self.bundle)
        old, seen = state.entries if state else [], self.site.seen
        await seen.see(old, [entry for entry in new if entry.kind != ABSENT])
        fresh = state is None and (await self.session.ask("is_fresh"))[0] == 0
        return await run_in_thread(Plan, None, seen, old, new, fresh)

    async def check_plan(self, plan: Plan) -> None:
        """Refused if the plan would lose what somebody may miss, or change what a job runs in."""
        if plan.edited and not self.overwrite:
            names = sorted(plan.edited)
            raise self.site.refused(b"conflict", b"edited", b"%d" % len(names), *names[:NAMES])
        if self.workspace.on_emptied != "remove" and (wiped := plan.wiped()):
            counts = b"%d" % len(wiped), b"%d" % len(plan.old)
            raise self.site.refused(b"conflict", b"emptied", *counts, *sorted(wiped)[:NAMES])
        if plan.changes() and self.workspace.under_jobs != "overwrite" and (running := await self.running_jobs()):
            raise self.site.refused(b"jobs", *running[:NAMES])

    async def running_jobs(self) -> list[bytes]:
        _, answer = await self.session.ask("running")
        if b"\0" not in answer:
            what = "the folder of the site, and the jobs that run, were expected"
            raise ProtocolError(self.remote.node.name, what, "", one_line(answer))
        here, *fields = answer.split(b"\0")[:-1]
        sites: dict[bytes, bytes] = {}
        for name, spec in zip(fields[::2], fields[1::2], strict=False):
            try:
                sites[name] = os.fsencode(json.loads(spec)["site"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        if not sites:
            return []
        _, answer = await self.session.ask("physical", *sites.values())
        return [name for name, path in zip(sites, answer.split(b"\0"), strict=False) if path == here]

    # --- contents -------------------------------------------------------------------------

    async def fill(self, plan: Plan) -> tuple[bytes, ...]:
        """Stage what is missing, then swap; we may go once all is verified."""
        await self.check_room(plan)
        files, links = name_staged(plan)
        self.site.check(*await self.session.ask("clear_staging"), META)
        await self.send_files(files)
        at = 0
        for batch in batches(entry.target for entry in links):
            self.site.check(*await self.session.ask("stage_links", str(at), *batch), META + b"/staging")
            at += len(batch)
        await self.verify(files)
        entries, removals = plan.entries + plan.kept, plan.removals + plan.blockers
        record = Record(self.project, self.digest, entries, removals, os.fsencode(self.bundle.label))
        await self.site.swap(record, changes=plan.changes())
        moved = b"%d" % (len(plan.moves) + len(plan.modes))
        names = [b"restored " + path for path in plan.restored[:NAMES]]
        names += [b"overwritten " + path for path in sorted(plan.edited)[:NAMES]]
        counts = (moved, b"%d" % len(plan.removals), b"%d" % len(plan.restored), b"%d" % len(plan.edited))
        return (b"done", self.site.seen.path, *counts, *names)

    async def check_room(self, plan: Plan) -> None:
        """Refused before anything travels if it cannot fit."""
        _, answer = await self.session.ask("room")
        room = self.site.room(answer)
        needed = sum(entry.size for entry in plan.moves if entry.kind == FILE)
        needed += 800 * (len(plan.new) + len(plan.removals))  # journal, state and the swap's session
        self.site.needed = needed
        short = room.inodes is not None and len(plan.moves) + plan.folders + 4 > room.inodes
        if short or (room.free is not None and needed + 4096 * plan.folders > room.free):
            raise self.site.full(room)

    async def send_files(self, files: list[Entry]) -> None:
        """Send files as tar, under the names they are staged by; an answer before the end ends it."""
        if not files:
            return
        failure: DeployError | None = None
        self.session.begin("take_tree")
        async with anyio.create_task_group() as group:

            async def send() -> None:
                nonlocal failure
                try:
                    await self.send_tar(files)
                except DeployError as error:
                    failure = error
                    group.cancel_scope.cancel()

            group.start_soon(send)
            try:
                status, why = await self.session.answer()
            except DeployError as error:
                failure, status, why = failure or error, 1, b""
            group.cancel_scope.cancel()
        if failure is not None:
            failure.node = failure.node or self.remote.node.name
            raise failure
        self.site.check(status, why, META + b"/staging")

    async def send_tar(self, files: list[Entry]) -> None:
        tar = await run_in_thread(TarOf, self.bundle, files)
        self.session.body(tar.head())
        for block in tar.blocks:
            self.session.body(await run_in_thread(tar.pack, block))
            await self.session.drain()
            self.sent += sum(piece.length for piece in block)
            self.remote.emit(BytesMoved(node=self.remote.node.name, stage="push", done=self.sent, total=tar.total))
        self.session.body(END)
        self.session.end_body()

    async def verify(self, files: Sequence[Entry]) -> None:
        if not files:
            return
        self.session.begin("verify")
        await self.site.send_body(b"".join(b"%s  %s\n" % (entry.sha, entry.staged) for entry in files))
        _, answer = await self.session.answer()
        if answer.strip() != b"%d" % len(files):
            await self.session.ask("clear_staging")
            raise self.site.refused(b"changed", files[0].path if len(files) == 1 else b"a file")
