"""Ask nodes whether they can run one job together: where they meet, who reaches whom, what stands in the way."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

from asyncdeploy.drift import Built, drift_of
from asyncdeploy.errors import PreflightFailed, ProtocolError
from asyncdeploy.facts import NodeFacts
from asyncdeploy.meeting import prove_meeting
from asyncdeploy.nodes import Node
from asyncdeploy.pairs import printable, try_pairs
from asyncdeploy.parallel import map_nodes
from asyncdeploy.placement import count_processes, interface_of, meeting_addresses
from asyncdeploy.pool import Pool
from asyncdeploy.rank_start import PLANNED_ENV
from asyncdeploy.transport import Remote
from asyncdeploy.verdict import GpuUser, NodeLook, Preflight, Problem, pair_problems, warnings_of
from asyncdeploy.worker import call_once

AT_ONCE = 128
"""Nodes that are asked at the same time; each is one small call."""


@attrs.frozen
class Ready:
    """A node as it stands before a launch: what it is, and what its environment turned out to be."""

    node: Node
    facts: NodeFacts
    built: Built | None = None


async def check_together(
    pool: Pool, ready: Sequence[Ready], *, nproc: int | None = None, uneven: bool = False, port: int | None = None
) -> Preflight:
    """Return whether the nodes can run one job together, and where they meet.

    Args:
        pool: the connections.
        ready: the nodes, in node rank order.
        nproc: processes a node, None for its slots, else its GPUs, else 1.
        uneven: whether nodes may have different numbers of processes.
        port: the port to prove, None for a free one.

    Raises:
        ToolMissing: a node has no python3.
        DeployError: a node does not answer.

    On cancellation no port stays taken.
    """
    nodes, facts = [each.node for each in ready], [each.facts for each in ready]
    drift = drift_of([(each.node.name, each.facts, each.built) for each in ready])
    warnings = tuple(f"the nodes of this launch are not alike: {line}" for line in drift)
    try:
        counts = count_processes(nodes, facts, nproc, uneven=uneven)
        meeting = await prove_meeting(pool, nodes, meeting_addresses(nodes, facts), port)
    except PreflightFailed as error:
        looks = tuple(NodeLook.of(each.node.name, each.facts) for each in ready)
        problem = Problem(error.node, error.message, error.hint, error.evidence)
        return Preflight(looks, problems=(problem,), warnings=(*warnings, *warnings_of(looks)))
    known = dict(zip(nodes, facts, strict=True))
    report = await map_nodes(nodes, lambda node: _look(pool.at(node), known[node]), at_once=AT_ONCE)
    for outcome in report.failures:
        if outcome.error is not None:
            raise outcome.error
    placed = [
        attrs.evolve(look, address=address, interface=interface_of(fact, address), nproc=count)
        for look, fact, address, count in zip(report.values, facts, meeting.locals, counts, strict=True)
    ]
    tried = await try_pairs(pool, nodes, placed)
    problems = pair_problems([node.name for node in nodes], tried.unreached)
    link_port = tried.ports[0] if tried.ports else 0
    warnings = (*warnings, *warnings_of(placed))
    return Preflight(tuple(placed), meeting.address, meeting.port, problems, warnings, link_port)


async def _look(remote: Remote, facts: NodeFacts) -> NodeLook:
    """Ask a node for what only it knows, and only now."""
    request = {"pattern": PLANNED_ENV.pattern, "nvidia_smi": facts.tool("nvidia-smi") if facts.gpus else None}
    try:
        answer = json.loads(await call_once(remote, "look", json.dumps(request).encode()))
        numbers = {gpu.uuid: gpu.index for gpu in facts.gpus}
        users = tuple(
            GpuUser(numbers.get(str(uuid), -1), int(pid), int(used), printable(program))
            for uuid, pid, used, program in answer["gpu_users"]
        )
        # Our own, of the run that looks, are no stranger's.
        stray = tuple(name for name in map(printable, answer["stray"]) if not name.startswith("ASYNCDEPLOY_"))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ProtocolError(remote.node.name, "a look before a launch was answered by nonsense") from None
    return attrs.evolve(NodeLook.of(remote.node.name, facts), stray=stray, gpu_users=users)
