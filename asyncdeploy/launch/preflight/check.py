"""Ask nodes whether they can run one job together: where they meet, who reaches whom, what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.built import Built
from asyncdeploy.launch.launchers.rank_env import PLANNED_ENV
from asyncdeploy.launch.preflight.addresses import count_processes, interface_of, likely_addresses, meeting_addresses
from asyncdeploy.launch.preflight.drift import drift_of
from asyncdeploy.launch.preflight.reachability import Tried, try_pairs
from asyncdeploy.launch.preflight.rendezvous import Meeting, prove_meeting
from asyncdeploy.launch.preflight.verdict import (
    MAX_WORD,
    GpuUser,
    NodeLook,
    Preflight,
    Problem,
    network_problems,
    warnings_of,
)
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import Report
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask
from asyncdeploy.values.errors import DeployError, PreflightFailed


@attrs.frozen
class Ready:
    """A node as it stands before a launch: what it is, what its environment turned out to be, where its code lies."""

    node: Node
    facts: NodeFacts
    built: Built | None = None
    folder: str = ""


async def check_nodes(
    pool: Pool,
    asked: Sequence[Ready | Node],
    *,
    nproc: int | None = None,
    uneven: bool = False,
    port: int | None = None,
) -> Preflight:
    """Return the verdict over nodes of which some may not even answer: that is a problem then, and no error.

    Args:
        asked: in node rank order; facts are asked for anew, for memory and disks change.
        pool, nproc, uneven, port: as for ``check_together``.

    On cancellation no port stays taken.
    """
    nodes = [each.node if isinstance(each, Ready) else each for each in asked]
    known = await map_nodes(nodes, lambda node: probe_node(pool.at(node), fresh=True), at_once=CALLS_AT_ONCE)
    ready, silent = list[Ready](), dict[str, DeployError]()
    for each, outcome in zip(asked, known, strict=True):
        if outcome.value is None:
            silent[outcome.node.name] = outcome.error or DeployError(outcome.node.name, f"ended as {outcome.state}")
        elif isinstance(each, Ready):
            ready.append(attrs.evolve(each, facts=outcome.value))
        else:
            ready.append(Ready(each, outcome.value))
    found = Preflight(())
    while ready:  # once, or once more for each node that answered the first question only
        try:
            found = await check_together(pool, ready, nproc=nproc, uneven=uneven, port=port)
            break
        except DeployError as error:
            lost = {error.node} & {each.node.name for each in ready}
            if not lost:
                raise
            silent[error.node] = error
            ready = [each for each in ready if each.node.name not in lost]
    return _with_silent(found, nodes, silent) if silent else found


def _with_silent(found: Preflight, nodes: Sequence[Node], silent: dict[str, DeployError]) -> Preflight:
    """Return the verdict over those that answered as one over all nodes."""
    looks = {look.node: look for look in found.nodes}
    problems = [
        Problem(name, f"does not take part: {error.message}", error.hint, error.evidence)
        for name, error in silent.items()
    ]
    everybody = tuple(looks.get(node.name) or NodeLook(node.name) for node in nodes)
    return Preflight(everybody, problems=(*problems, *found.problems), warnings=found.warnings)


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
    problems = []
    try:
        counts = count_processes(nodes, facts, nproc, uneven=uneven)
    except PreflightFailed as error:
        counts = count_processes(nodes, facts, nproc, uneven=True)
        problems.append(_problem(error))
    looks, network = await _asked(pool, ready, port)
    places = network.places
    placed = tuple(
        attrs.evolve(look, address=address, interface=interface, nproc=count)
        for look, (address, interface), count in zip(looks, places, counts, strict=True)
    )
    problems += network_problems([node.name for node in nodes], network.tried.unreached, network.problems)
    drift = drift_of([(each.node.name, each.facts, each.built) for each in ready])
    warnings = (*(f"the nodes of this launch are not alike: {line}" for line in drift), *warnings_of(placed))
    meeting, link_port = network.meeting, network.tried.ports[0] if network.tried.ports else 0
    if meeting is None:
        return Preflight(placed, problems=tuple(problems), warnings=warnings)
    return Preflight(placed, meeting.address, meeting.port, tuple(problems), warnings, link_port)


@attrs.define
class _Network:
    """What the nodes' tries to reach each other came to."""

    places: list[tuple[str, str]]
    meeting: Meeting | None = None
    tried: Tried = attrs.field(factory=Tried)
    problems: list[Problem] = attrs.field(factory=list)


async def _asked(pool: Pool, ready: Sequence[Ready], port: int | None) -> tuple[list[NodeLook], _Network]:
    """Look at every node while they try each other.

    Raises:
        DeployError: a node does not answer.
    """
    known = {each.node: each for each in ready}
    reports, networks, errors = list[Report[NodeLook]](), list[_Network](), list[DeployError]()

    async def look() -> None:
        reports.append(await map_nodes(known, lambda node: _look(pool.at(node), known[node]), at_once=CALLS_AT_ONCE))

    async def network() -> None:
        try:
            networks.append(await _try_network(pool, ready, port))
        except DeployError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        group.start_soon(network)
    errors += [outcome.error for outcome in reports[0].failures if outcome.error is not None]
    if errors:
        raise errors[0]
    return list(reports[0].values), networks[0]


async def _try_network(pool: Pool, ready: Sequence[Ready], port: int | None) -> _Network:
    """Find where the nodes meet; at the same time let all try each other where they probably will.

    What a node uses towards the first one is known for sure only after the meeting. It is nearly always what was
    expected, and then all is known after one connect's time, also where a firewall swallows packets.
    """
    nodes, facts = [each.node for each in ready], [each.facts for each in ready]
    addresses = meeting_addresses(nodes, facts)
    found = _Network(_placed(facts, likely_addresses(facts, addresses[0])))
    errors = list[DeployError]()
    done = False

    async def pairs() -> None:
        nonlocal done
        try:
            found.tried = await try_pairs(pool, nodes, found.places)
            done = True
        except PreflightFailed as error:
            found.problems.append(_problem(error))
        except DeployError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(pairs)
        try:
            found.meeting = await prove_meeting(pool, nodes, addresses, port)
        except PreflightFailed as error:
            found.problems.append(_problem(error))
        except DeployError as error:
            errors.append(error)
        proven = _placed(facts, found.meeting.locals) if found.meeting is not None else found.places
        if errors or proven != found.places:
            group.cancel_scope.cancel()
    if not errors and proven != found.places:
        found.places, found.problems = proven, []
        await pairs()
    if errors:
        raise errors[0]
    return found


def _placed(facts: Sequence[NodeFacts], addresses: Sequence[str]) -> list[tuple[str, str]]:
    return [(address, interface_of(known, address)) for known, address in zip(facts, addresses, strict=True)]


def _problem(error: PreflightFailed) -> Problem:
    return Problem(error.node, error.message, error.hint, error.evidence)


async def _look(remote: Remote, ready: Ready) -> NodeLook:
    """Ask a node for what only it knows, and only now."""
    facts, folder = ready.facts, ready.folder or ready.facts.home
    tool = facts.tool("nvidia-smi") if facts.gpus else None
    request = {"pattern": PLANNED_ENV.pattern, "nvidia_smi": tool, "folder": folder}
    answer = await ask(remote, "launch.disturbances", request, what="a look before a launch")
    numbers = {gpu.uuid: gpu.index for gpu in facts.gpus}
    users = tuple(
        GpuUser(numbers.get(uuid.exact(), -1), pid.whole(), used.whole(), program.text(limit=MAX_WORD))
        for uuid, pid, used, program in (row.items(4) for row in answer["gpu_users"].items())
    )
    used = {uuid.exact(): used.whole() for uuid, used in (row.items(2) for row in answer["gpu_used"].items())}
    stray = [name.text(limit=MAX_WORD) for name in answer["stray"].items()]
    return attrs.evolve(
        NodeLook.of(remote.node.name, facts),
        # Our own, of the run that looks, are no stranger's.
        stray=tuple(name for name in stray if not name.startswith("ASYNCDEPLOY_")),
        gpu_users=users,
        gpu_used=tuple(used.get(gpu.uuid, 0) for gpu in facts.gpus),
        folder=folder,
        free_bytes=answer["free"].whole(-1),
        shared_memory_bytes=answer["shared_memory"].whole(-1),
    )
