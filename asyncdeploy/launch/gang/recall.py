"""What the nodes remember of a launch: kept before it starts, found by its id, forgotten if it did not come to be."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.launch import Launch, check_launch_id
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, fold_names
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_once
from asyncdeploy.values.errors import LaunchFailed

MAX_KEPT = 64 << 20
"""Bytes of a launch's description, unpacked: a node is not trusted with our memory."""


async def keep_launch(remote: Remote, launch: Launch, tools: bytes) -> None:
    """Have a node remember a launch, before its rank starts there: whoever can reach the nodes finds it by its id.

    Args:
        remote: the node.
        launch: the launch; whoever asks for an earlier attempt finds this one.
        tools: what its ranks need beside them, see ``tools_of``.

    Raises:
        ToolMissing: the node has no python3.
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    before, packed = launch.before[-1] if launch.before else "", _packed(launch)
    data = b"\0".join((before.encode(), b"%d" % len(packed), packed + tools))
    await ask_folder(remote, "keep", launch.id, data)


async def forget_launch(remote: Remote, launch_id: str) -> None:
    """Have a node forget a launch that did not come to be.

    Raises:
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    await ask_folder(remote, "forget", launch_id)


async def note_next(remote: Remote, launch: Launch) -> None:
    """Have a node that is not in a launch any more remember which attempt followed the one that it was in.

    Raises:
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    await ask_folder(remote, "next", launch.before[-1], launch.id.encode())


async def ask_folder(remote: Remote, word: str, launch_id: str, data: bytes = b"") -> bytes:
    """Ask a node something about a launch's folder there, in the words of node_side/launch/launch_folder.py."""
    return await call_once(remote, "launch.launch_folder", b"\0".join((word.encode(), launch_id.encode(), data)))


async def recall_launch(pool: Pool, nodes: Sequence[Node], launch_id: str, *, at_most_s: float | None = None) -> Launch:
    """Return a launch that the nodes remember, the last of its attempts.

    Args:
        pool: the connections.
        nodes: all nodes of the launch, by the names that they had in it; their ways in may be others.
        launch_id: the launch, or an earlier attempt of it.
        at_most_s: a node's own time; one that takes longer did not answer.

    Raises:
        LaunchFailed: no node remembers it, they disagree, or it has a node that is not among these. A node is not
            trusted to say where we connect to.
    """
    check_launch_id(launch_id)
    report = await map_nodes(
        nodes, lambda node: ask_folder(pool.at(node), "find", launch_id), at_once=CALLS_AT_ONCE, at_most_s=at_most_s
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


def _packed(launch: Launch) -> bytes:
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
