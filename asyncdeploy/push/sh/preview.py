"""What a push to a node without python3 would do, found by sh without changing anything there."""

from __future__ import annotations

import os
from collections.abc import Iterable

from asyncdeploy.node_side.push.plan import Plan
from asyncdeploy.node_side.push.preview import COUNTS, touches
from asyncdeploy.node_side.push.site_record import ABSENT, FILE, Record, Refused
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.sh.push import NAMES, TOOLS, ShPush
from asyncdeploy.push.sh.script import tree_of
from asyncdeploy.push.sh.site import ShSite
from asyncdeploy.remote.sh_session import open_sh_session
from asyncdeploy.remote.transport import Remote
from asyncdeploy.tasks.threads import run_in_thread


async def preview_by_sh(remote: Remote, bundle: Bundle, sources: Iterable[str]) -> bytes:
    """Return what node_side/push/preview.py would answer.

    Args:
        remote: a node without python3.
        bundle: what would be pushed.
        sources: paths that an environment is made from.

    Raises:
        ToolMissing: the node has not even stat or sha256sum.
        ConnectionLost and others: as ``open_sh_session``.
    """
    async with open_sh_session(remote, "push/push", *TOOLS) as session:
        look = _Preview(remote, bundle, ShSite(session))
        look.sources = frozenset(map(os.fsencode, sources))
        try:
            return b"\0".join(await look.look())
        except Refused as refused:
            return b"\0".join((b"plan", look.site.seen.path, *[b"0"] * COUNTS, b"", *refused.fields))


class _Preview(ShPush):
    """One look, by the rules of a push."""

    sources: frozenset[bytes] = frozenset()

    async def look(self) -> tuple[bytes, ...]:
        seen = self.site.seen
        if not await self.site.look(self.workspace.site_path, overwrite=self.overwrite):
            new = [entry for entry in await run_in_thread(tree_of, self.bundle) if entry.kind != ABSENT]
            plan = await run_in_thread(Plan, None, seen, [], new, True)
            return await self.told(plan, begun=False)
        begun = await self.site.read_record("journal") is not None
        state: Record | None = await self.site.read_record("state")
        self.check_project(state)
        if state is not None and state.digest == self.digest and not begun and await seen.stands(state.entries):
            return b"same", seen.path
        return await self.told(await self.make_plan(state), begun=begun)

    async def told(self, plan: Plan, *, begun: bool) -> tuple[bytes, ...]:
        files = [entry for entry in plan.moves if entry.kind == FILE]
        counts = (len(plan.moves) + len(plan.modes), len(plan.removals), len(plan.restored), len(plan.edited))
        travel = (len(files), sum(entry.size for entry in files), 0, begun, touches(plan, self.sources))
        names = [b"removed " + path for path in sorted(plan.removals)[:NAMES]]
        names += [b"overwritten " + path for path in sorted(plan.edited)[:NAMES]]
        told = (b"plan", self.site.seen.path, *(b"%d" % count for count in (*counts, *travel)), *names)
        try:
            await self.check_plan(plan)
            if plan.changes():
                await self.check_room(plan)
        except Refused as refused:
            return (*told, b"", *refused.fields)
        return told
