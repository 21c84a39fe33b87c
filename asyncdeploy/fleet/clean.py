"""Nodes stay clean: what deployments left there and nobody has used for long is taken away."""

from __future__ import annotations

import json

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.arguments import Nodes, lent_pool
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_program
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.cleaned import Cleaned, CleanedItem
from asyncdeploy.values.errors import ProtocolError, ToolMissing
from asyncdeploy.values.serialize import MAX_WHOLE

MONTH_S = 30 * 86400.0
MAX_ITEMS = 100_000
"""Of one node: who names more lies."""
ASKED = "the cleaning"
KINDS = ("job", "launch", "site", "environment", "tool", "image", "part")


@checked
async def clean(
    nodes: Nodes,
    *,
    older_than_s: float = MONTH_S,
    dry_run: bool = False,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Cleaned]:
    """Take away what this account's deployments left on nodes and nobody has used for long; never anything that runs.

    Jobs and launches that ended go with their logs. Of a site goes what a push has put there and nobody has changed,
    with its environments; what a person or a run has left in it stays. What an environment needs again is sent again.

    Args:
        nodes: the nodes.
        older_than_s: seconds since its last use. Of a site that is its last push, its environment's making, or the last
            word of a job in it; what is run there otherwise leaves no trace, and only what runs now is seen.
        dry_run: only say what would go.
        at_once: how many nodes are worked on at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    Returns:
        What went from each node, or would; a thing that had to stay says why.

    Raises:
        ValueError: ``older_than_s`` is below 0.

    A node without python3 is a failure (ToolMissing). On cancellation what is gone is gone, and the rest stands whole.
    """
    if not older_than_s >= 0:
        raise ValueError(f"clean older_than_s: 0 or more seconds were expected, got {older_than_s!r}")
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:

        async def work(node: Node) -> Cleaned:
            return await clean_node(lent.at(node), older_than_s, dry_run)

        return await map_nodes(fleet, work, at_once=at_once, at_most_s=at_most_s)


async def clean_node(remote: Remote, older_than_s: float, dry_run: bool) -> Cleaned:
    name = remote.node.name
    with stage(remote, "clean") as ours:
        if not await has_python(remote):
            raise ToolMissing(name, "cleaning needs a python3 there, from 3.8 on", tool="python3")
        request = json.dumps({"older_than_s": older_than_s, "dry_run": dry_run}).encode()
        items: list[CleanedItem] = []
        async with call_program(remote, "clean.clean", request) as call:
            while True:
                kind, payload = await call.receive()
                if kind == b"Z":
                    break
                if kind != b"D" or len(items) > MAX_ITEMS:
                    what = f"{ASKED}: its answer was expected, a frame {kind!r} came behind {len(items)} finds"
                    raise ProtocolError(name, what)
                items.extend(_item(each) for each in Answer.read(name, ASKED, payload).items())
        cleaned = Cleaned(name, tuple(items), dry_run)
        ours.detail = f"{cleaned.bytes / 1e6:.1f} MB {'would go' if dry_run else 'went'}"
        return cleaned


def _item(row: Answer) -> CleanedItem:
    return CleanedItem(
        kind=row["kind"].word(*KINDS),  # type: ignore[arg-type]
        path=row["path"].text(limit=4096),
        bytes=row["bytes"].whole(-MAX_WHOLE),
        idle_s=row["idle_s"].number(),
        kept=row["kept"].text(""),
    )
