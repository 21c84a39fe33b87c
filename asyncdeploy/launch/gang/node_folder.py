"""What a launch's ranks need beside them on a node, and what they left when they failed."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.launch import Launch, check_launch_id
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, fold_names
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask, call_once
from asyncdeploy.values.errors import LaunchFailed
from asyncdeploy.values.texts import packaged_text

_TOOLS = {"rank_runner.py": "rank_runner", "python/sitecustomize.py": "rank_shim"}
"""Where in the launch's folder "tools" each program of node_side stands."""


async def place_tools(remote: Remote, launch_id: str) -> None:
    """Put what starts ranks, and what notes their exceptions, into the launch's folder on a node.

    Raises:
        ToolMissing: the node has no python3.
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    await call_once(remote, "launch.launch_folder", b"tools\0" + launch_id.encode() + b"\0" + _tools())


async def gather_evidence(remote: Remote, launch_id: str, node_rank: int, job_id: str) -> dict[str, Any]:
    """Return what a node's ranks left behind when they failed, as rank_evidence.py says.

    Raises:
        ProtocolError: the answer is no object.
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    request = {"launch": launch_id, "node_rank": node_rank, "job": job_id}
    return (await ask(remote, "launch.rank_evidence", request, what="what its failed ranks left")).object()


@functools.cache
def _tools() -> bytes:
    return json.dumps({path: packaged_text(f"node_side/launch/{name}.py") for path, name in _TOOLS.items()}).encode()


MAX_KEPT = 64 << 20
"""Bytes of a launch's description, unpacked: a node is not trusted with our memory."""


async def recall_launch(pool: Pool, nodes: Sequence[Node], launch_id: str) -> Launch:
    """Return a launch that the nodes remember, the last of its attempts.

    Args:
        pool: the connections.
        nodes: all nodes of the launch, by the names that they had in it; their ways in may be others.
        launch_id: the launch, or an earlier attempt of it.

    Raises:
        LaunchFailed: no node remembers it, they disagree, or it has a node that is not among these. A node is not
            trusted to say where we connect to.
    """
    request = b"find\0" + check_launch_id(launch_id).encode() + b"\0"
    report = await map_nodes(
        nodes, lambda node: call_once(pool.at(node), "launch.launch_folder", request), at_once=CALLS_AT_ONCE
    )
    errors = [outcome.error for outcome in report.failures if outcome.error is not None]
    evidence = "\n".join(f"{error.node}: {error.message}" for error in errors[:5])
    known_launches = [launch for text in set(report.values) if text and (launch := unpacked_launch(text))]
    # A node that a spare has replaced knows the earlier attempts only.
    found = {launch for launch in known_launches if launch_id in (launch.id, *launch.before)}
    found = {launch for launch in found if len(launch.before) == max(len(each.before) for each in found)}
    if len(found) != 1:
        what = "disagree about" if found else "do not know"
        silent = f"; {len(errors)} did not answer" if errors else ""
        hint = "list_jobs shows what a node knows"
        raise LaunchFailed(
            "", f"{len(report)} nodes {what} a run {launch_id}{silent}", hint, evidence, launch_id=launch_id
        )
    launch, known = found.pop(), {node.name: node for node in nodes}
    if strange := [node.name for node in launch.nodes if node.name not in known]:
        raise LaunchFailed(
            "",
            f"run {launch.id} has nodes that were not named: {fold_names(strange)}",
            "name all of its nodes, as they were called when it was launched",
            launch_id=launch_id,
        )
    return _with_nodes(launch, known)


def packed_launch(launch: Launch) -> bytes:
    return zlib.compress(json.dumps(launch.to_dict()).encode())


def unpacked_launch(data: bytes) -> Launch | None:
    """Return what a node remembers, None if that is no launch."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_KEPT)
        return Launch.from_dict(json.loads(text))
    except (zlib.error, ValueError, RecursionError):
        return None


def _with_nodes(launch: Launch, known: Mapping[str, Node]) -> Launch:
    jobs = [attrs.evolve(job, node=known[job.node.name]) for job in launch.jobs]
    places = [attrs.evolve(place, node=job.node) for place, job in zip(launch.placement.places, jobs, strict=True)]
    return attrs.evolve(launch, jobs=tuple(jobs), placement=attrs.evolve(launch.placement, places=tuple(places)))
