"""Look at launches without watching over them: which ones lie on nodes, and what their ranks are at this moment.

Three questions, so that little travels: a node names its launches by the hashes of their descriptions, each description
is fetched once, and then each node is asked for the jobs of its own ranks only (nodes may share a home).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.follow.status import NOT_ASKED, LaunchStatus
from asyncdeploy.launch.gang.recall import unpacked_launch
from asyncdeploy.launch.launch import Launch, check_launch_id
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import Outcome, Report
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask, call_program
from asyncdeploy.run.job import Job, JobStatus
from asyncdeploy.run.job_answers import status_of
from asyncdeploy.tasks.urgency import urgently
from asyncdeploy.values.errors import ConnectionLost, ProtocolError
from asyncdeploy.values.events import Noted
from asyncdeploy.values.words import last_lines

T = TypeVar("T")

PROGRAM = "looks.launches"
ASKED = "its launches"
JOBS_AT_ONCE = 5000
"""Of one call: a node's answer to it stays below a few MB."""

Key = tuple[str, str]
"""A launch's id and its description's hash: nodes that disagree about a launch are both heard."""


@attrs.frozen
class _Seen:
    """A rank's state, when its log was written last by the node's clock, and the end of that."""

    status: JobStatus
    wrote_at: float = 0.0
    last_line: str = ""


async def look_for_launches(
    pool: Pool, nodes: Sequence[Node], *, newest: int, at_once: int = CALLS_AT_ONCE, at_most_s: float | None = None
) -> Report[tuple[LaunchStatus, ...]]:
    """Return what lies on each node: its launches, the newest first, each with what all of its nodes say.

    Args:
        pool: the connections.
        nodes: in any order; a launch's rank is asked for by its node's name.
        newest: how many launches of a node, the last started first; that there are more is said by an event.
        at_once / at_most_s: as for ``map_nodes``, of each of the three questions.
    """
    with urgently():
        told = await map_nodes(
            nodes, lambda node: tell_ids(pool.at(node), newest), at_once=at_once, at_most_s=at_most_s
        )
        keys = {outcome.node: outcome.value for outcome in told if outcome.value is not None}
        launches = await _described(pool, keys, at_most_s)
        named = {node.name: node for node in nodes}
        wanted: dict[Node, list[Job]] = {node: [] for node in keys}
        for job in [job for launch in launches.values() for job in launch.jobs]:
            if (node := named.get(job.node.name)) in wanted:
                wanted[node].append(attrs.evolve(job, node=node))
        seen = await _looked_at(pool, wanted, at_once=at_once, at_most_s=at_most_s)
        silent = _reasons(told) | _reasons(seen)
        found = {key: _status(launch, seen, silent) for key, launch in launches.items()}
    return Report(tuple(_of_node(outcome, found) for outcome in told))


async def look_at_launch(pool: Pool, launch: Launch, *, at_most_s: float | None = None) -> LaunchStatus:
    """Return what the nodes of a launch say of it.

    Args:
        pool: the connections.
        launch: the launch.
        at_most_s: a node's own time.
    """
    with urgently():
        wanted = {job.node: [job] for job in launch.jobs}
        seen = await _looked_at(pool, wanted, at_once=CALLS_AT_ONCE, at_most_s=at_most_s)
    return _status(launch, seen, _reasons(seen))


def _of_node(outcome: Outcome[tuple[Key, ...]], found: Mapping[Key, LaunchStatus]) -> Outcome[tuple[LaunchStatus, ...]]:
    if outcome.value is None:
        return Outcome(outcome.node, outcome.state, None, outcome.error)
    return Outcome(outcome.node, outcome.state, tuple(found[key] for key in outcome.value if key in found))


def _status(launch: Launch, seen: Report[dict[str, _Seen]], silent: Mapping[str, str]) -> LaunchStatus:
    by_name = {outcome.node.name: outcome.value for outcome in seen if outcome.value is not None}
    ranks = [by_name.get(job.node.name, {}).get(job.id) for job in launch.jobs]
    why = {
        job.node.name: silent.get(job.node.name, NOT_ASKED)
        for job, rank in zip(launch.jobs, ranks, strict=True)
        if rank is None
    }
    spoke = [
        (rank.wrote_at - late, rank.last_line)
        for rank, late in zip(ranks, launch.clock_offsets_s, strict=True)
        if rank is not None and rank.last_line
    ]
    statuses = tuple(rank.status if rank is not None else None for rank in ranks)
    return LaunchStatus.of(launch, statuses, why, max(spoke, default=(0.0, ""))[1])


async def tell_ids(remote: Remote, newest: int) -> tuple[Key, ...]:
    """Return what a node calls its newest launches.

    Raises:
        ProtocolError: the answer is none.
        ToolMissing, ConnectionLost, ...: it could not be asked.
    """
    answer = await _again(lambda: ask(remote, PROGRAM, {"op": "ids", "newest": newest}, what=ASKED))
    keys = []
    for row in answer["launches"].items()[:newest]:
        launch_id, digest = row.items(2)
        try:
            keys.append((check_launch_id(launch_id.exact()), digest.exact()))
        except ValueError:
            continue  # a folder of somebody else's
    if left := answer["left"].whole():
        remote.emit(Noted(node=remote.node.name, text=f"{left} more launches lie there, older than these {len(keys)}"))
    return tuple(keys)


async def _described(pool: Pool, keys: Mapping[Node, tuple[Key, ...]], at_most_s: float | None) -> dict[Key, Launch]:
    """Return the launches behind the keys, without earlier attempts of others; each is fetched from one node that has
    it, from another where that one fails.
    """
    found: dict[Key, Launch] = {}
    holders = {key: [node for node in keys if key in keys[node]] for node in keys for key in keys[node]}
    while holders:
        asked: dict[Node, list[Key]] = {}
        for key, nodes in holders.items():
            asked.setdefault(nodes.pop(0), []).append(key)

        async def fetch(node: Node, asked: Mapping[Node, list[Key]] = asked) -> dict[Key, Launch]:
            return await _again(lambda: _texts(pool.at(node), asked[node]))

        report = await map_nodes(tuple(asked), fetch, at_once=CALLS_AT_ONCE, at_most_s=at_most_s)
        for part in report.values:
            found |= part
        holders = {key: nodes for key, nodes in holders.items() if key not in found and nodes}
    earlier = {launch_id for launch in found.values() for launch_id in launch.before}
    return {key: launch for key, launch in found.items() if launch.id not in earlier}


async def _texts(remote: Remote, keys: Sequence[Key]) -> dict[Key, Launch]:
    wanted = dict(keys)
    request = {"op": "texts", "ids": list(wanted)}
    found: dict[Key, Launch] = {}
    for payload in await _frames(remote, request, len(keys)):
        name, _, text = payload.partition(b"\0")
        key = name.decode("ascii", "replace"), hashlib.sha256(text).hexdigest()
        launch = unpacked_launch(text) if key in keys else None
        if launch is not None and launch.id == key[0]:
            found[key] = launch
    for launch_id, digest in keys:
        if (launch_id, digest) not in found:
            remote.emit(Noted(node=remote.node.name, text=f"what it keeps of a launch {launch_id} describes none"))
    return found


async def _looked_at(
    pool: Pool, wanted: Mapping[Node, Sequence[Job]], *, at_once: int, at_most_s: float | None
) -> Report[dict[str, _Seen]]:
    """Return the state of each job, by its id, of each node."""

    async def work(node: Node) -> dict[str, _Seen]:
        found: dict[str, _Seen] = {}
        jobs = wanted[node]
        for first in range(0, len(jobs), JOBS_AT_ONCE):
            some = jobs[first : first + JOBS_AT_ONCE]
            found |= await _again(lambda some=some: tell_jobs(pool.at(node), some))  # type: ignore[misc]
        return found

    if not wanted:
        return Report(())
    return await map_nodes(tuple(wanted), work, at_once=at_once, at_most_s=at_most_s)


async def tell_jobs(remote: Remote, jobs: Sequence[Job]) -> dict[str, _Seen]:
    """Return what a node says of jobs, by their ids.

    Raises:
        ProtocolError: an answer is none.
        ToolMissing, ConnectionLost, ...: it could not be asked.
    """
    frames = await _frames(remote, {"op": "jobs", "jobs": [job.id for job in jobs]}, len(jobs))
    if len(frames) != len(jobs):
        raise ProtocolError(remote.node.name, f"{ASKED}: {len(jobs)} jobs were expected, got {len(frames)}")
    return {
        job.id: _seen(job, Answer.read(remote.node.name, ASKED, frame)) for job, frame in zip(jobs, frames, strict=True)
    }


def _seen(job: Job, answer: Answer) -> _Seen:
    text = answer["tail"].exact("")
    status = status_of(job, answer)
    if not status.ok and status.ended:
        status = attrs.evolve(status, last_lines=last_lines(text))
    return _Seen(status, answer["wrote_at"].moment() or 0.0, last_lines(text, 1))


async def _frames(remote: Remote, request: Mapping[str, Any], most: int) -> list[bytes]:
    frames: list[bytes] = []
    async with call_program(remote, PROGRAM, json.dumps(request).encode()) as call:
        while True:
            kind, payload = await call.receive()
            if kind == b"Z":
                return frames
            if kind != b"D" or len(frames) >= most:
                what = f"{ASKED}: at most {most} were expected, a frame {kind!r} came behind {len(frames)}"
                raise ProtocolError(remote.node.name, what)
            frames.append(payload)


async def _again(question: Callable[[], Awaitable[T]]) -> T:
    """Ask, and once more where the connection broke: it may have gone while nobody used it."""
    try:
        return await question()
    except ConnectionLost:
        return await question()


def _reasons(report: Report[Any]) -> dict[str, str]:
    """Return why a node has said nothing, by its name."""
    return {seen.node.name: seen.error.message if seen.error is not None else seen.state for seen in report.failures}
