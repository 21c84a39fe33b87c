"""Code on many nodes: scanned and packed once, and passed on among them."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.arguments import Nodes, lent_pool
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.push.bundle.bundle import begin_packing
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.crew import Crew, Relay
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.workspace import Site, Workspace, as_workspace

T = TypeVar("T")

Code = Workspace | Path | str
"""A path is a workspace with nothing said about it."""


@checked
async def push_all(
    nodes: Nodes,
    workspace: Code,
    *,
    relay: Relay = "auto",
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Site]:
    """Push a workspace to all nodes; it is scanned, hashed and packed once, and large ones are uploaded about once.

    Args:
        nodes: the nodes.
        workspace: what to push.
        relay: "auto" lets nodes that are pushed to at the same time pass large amounts on to each other, over TLS of
            this run's own; "on" does so whatever the amount; "off" sends everything from here. A node that others
            cannot reach is sent everything from here.
        at_once: how many nodes are worked on at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    On cancellation what was sent waits on the nodes for the next try; nothing half-done has a final name.
    """
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:

        async def work(node: Node, crew: Crew) -> Site:
            return await push_code(lent.at(node), crew)

        return await with_crew(fleet, workspace, relay, work, at_once=at_once, at_most_s=at_most_s)


async def with_crew(
    fleet: Sequence[Node],
    code: Code,
    relay: Relay,
    work: Callable[[Node, Crew], Awaitable[T]],
    *,
    program: str = "",
    at_once: int,
    at_most_s: float | None,
) -> Report[T]:
    """Do the work of each node, which may connect while the workspace is scanned; a failed scan ends all of it.

    So does a ``program``, a path relative to where the project is started, that is not among what is sent.
    """
    if relay not in ("auto", "on", "off"):
        raise ValueError(f"push relay: 'auto', 'on' or 'off' was expected, got {relay!r}")
    workspace = as_workspace(code)
    async with begin_packing(workspace, needed_path(workspace, program)) as scan:
        crew = Crew(scan, relay, [node.name for node in fleet], at_once)

        async def one(node: Node) -> T:
            try:
                return await work(node, crew)
            finally:
                crew.gone(node.name)

        with anyio.CancelScope() as scope:
            scan.add_done_callback(lambda done: scope.cancel() if not done.cancelled() and done.exception() else None)
            return await map_nodes(fleet, one, at_once=at_once, at_most_s=at_most_s, judged=True)
        scan.result()
        raise AssertionError("only a failed scan ends the work")


def needed_path(workspace: Workspace, program: str) -> str:
    """Return where a program lies in a workspace, "" where it is none of its own.

    Args:
        workspace: what is sent.
        program: its path relative to where the project is started.
    """
    path = posixpath.normpath(posixpath.join(workspace.project or "", program)) if program else ""
    return "" if path.startswith("../") else path
