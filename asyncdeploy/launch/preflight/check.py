"""Ask nodes whether they can run one job together: where they meet, who reaches whom, what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.built import Built
from asyncdeploy.launch.preflight.addresses import count_processes
from asyncdeploy.launch.preflight.disturbances import see_node, warnings_of
from asyncdeploy.launch.preflight.drift import drift_of
from asyncdeploy.launch.preflight.network import Network, try_network
from asyncdeploy.launch.preflight.problems import network_problems
from asyncdeploy.launch.preflight.torch_cuda import cuda_warnings
from asyncdeploy.launch.preflight.verdict import NodeSeen, Preflight, Problem
from asyncdeploy.launch.preflight.visible_gpus import LOGIN, Choices
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import Report
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.values.errors import DeployError, PreflightFailed, ToolMissing


def keeps_nothing(_name: str) -> bool:
    """Return False: ranks see no variable of the session that we came in by."""
    return False


def check_python(node: Node, facts: NodeFacts) -> None:
    """Raise ToolMissing for a node on which no ranks can run: what watches over them there is Python."""
    if not facts.python:
        what = "no python3 from 3.8 on starts there, and what watches over ranks is Python"
        hint = "install python3 there; commands and jobs (run, start) do without"
        raise ToolMissing(node.name, what, hint, tool="python3")


@attrs.frozen
class Ready:
    """A node as it stands before a launch: what it is, what its environment turned out to be, where its code lies, what
    decides which of its GPUs are seen, and which variables of the session ranks keep.
    """

    node: Node
    facts: NodeFacts
    built: Built | None = None
    folder: str = ""
    gpus: Choices = (LOGIN,)
    keeps: Callable[[str], bool] = keeps_nothing


async def check_nodes(
    pool: Pool,
    asked: Sequence[Ready | Node],
    *,
    nproc: int | None = None,
    uneven: bool = False,
    port: int | None = None,
    at_most_s: float | None = None,
) -> Preflight:
    """Return the verdict over nodes of which some may not even answer: that is a problem then, and no error.

    Args:
        asked: in node rank order; facts are asked for anew, for memory and disks change.
        at_most_s: a node's own time to say what it is; one that takes longer is a problem.
        pool, nproc, uneven, port: as for ``check_together``.

    On cancellation no port stays taken.
    """
    nodes = [each.node if isinstance(each, Ready) else each for each in asked]
    known = await map_nodes(
        nodes, lambda node: probe_node(pool.at(node), fresh=True), at_once=CALLS_AT_ONCE, at_most_s=at_most_s
    )
    ready, silent = list[Ready](), dict[str, DeployError]()
    for each, outcome in zip(asked, known, strict=True):
        if outcome.value is None:
            silent[outcome.node.name] = outcome.error or DeployError(outcome.node.name, f"ended as {outcome.state}")
        elif isinstance(each, Ready):
            ready.append(attrs.evolve(each, facts=outcome.value))
        else:
            ready.append(Ready(each, outcome.value))
    found = Preflight(())
    # Once, or once more for each node that answered the probe and then fell silent: it must not hide what is wrong with
    # the others. Each turn takes at least one node away, so it ends.
    while ready:
        try:
            found = await check_together(pool, ready, nproc=nproc, uneven=uneven, port=port)
            break
        except DeployError as error:
            lost = {error.node} & {each.node.name for each in ready}
            if not lost:  # nobody's in particular: without a node to leave out, the next turn would be the same
                raise
            silent[error.node] = error
            ready = [each for each in ready if each.node.name not in lost]
    return _with_silent(found, known, silent) if silent else found


def _with_silent(found: Preflight, known: Report[NodeFacts], silent: dict[str, DeployError]) -> Preflight:
    """Return the verdict over those that take part as one over all nodes; of others what they have said stays."""
    seen = {each.node.name: NodeSeen.of(each.node.name, each.value) for each in known if each.value is not None}
    seen |= {each.node: each for each in found.nodes}
    problems = [
        Problem(name, f"does not take part: {error.message}", error.hint, error.evidence)
        for name, error in silent.items()
    ]
    everybody = tuple(seen.get(each.node.name) or NodeSeen(each.node.name) for each in known)
    return Preflight(everybody, problems=(*problems, *found.problems), warnings=found.warnings)


async def check_together(
    pool: Pool, ready: Sequence[Ready], *, nproc: int | None = None, uneven: bool = False, port: int | None = None
) -> Preflight:
    """Return whether the nodes can run one job together, and where they meet.

    Args:
        pool: the connections.
        ready: the nodes, in node rank order.
        nproc: processes a node, None for its slots, else the GPUs that they see, else 1.
        uneven: whether nodes may have different numbers of processes.
        port: the port to prove, None for a free one.

    Raises:
        ToolMissing: a node has no python3.
        DeployError: a node does not answer.

    On cancellation no port stays taken.
    """
    for each in ready:
        check_python(each.node, each.facts)
    nodes, facts = [each.node for each in ready], [each.facts for each in ready]
    problems = []
    seen, network = await _see(pool, ready, port)
    usable = [
        attrs.evolve(known, gpus=tuple(gpu for gpu in known.gpus if gpu.index not in each.hidden))
        for known, each in zip(facts, seen, strict=True)
    ]
    try:
        counts = count_processes(nodes, usable, nproc, uneven=uneven)
    except PreflightFailed as error:
        counts = count_processes(nodes, usable, nproc, uneven=True)  # all that is wrong is found and told at once
        problems.append(Problem.of(error))
    placed = tuple(
        attrs.evolve(each, address=address, interface=interface, nproc=count)
        for each, (address, interface), count in zip(seen, network.places, counts, strict=True)
    )
    problems += network_problems([node.name for node in nodes], network.tried.unreached, network.problems)
    drift = drift_of([(each.node.name, each.facts, each.built) for each in ready])
    unfit = cuda_warnings([(each.node.name, known, each.built) for each, known in zip(ready, usable, strict=True)])
    alike = (f"the nodes of this launch are not alike: {line}" for line in drift)
    warnings = (*alike, *unfit, *warnings_of(placed))
    meeting, link_port = network.meeting, network.tried.ports[0] if network.tried.ports else 0
    if meeting is None:
        return Preflight(placed, problems=tuple(problems), warnings=warnings)
    return Preflight(placed, meeting.address, meeting.port, tuple(problems), warnings, link_port)


async def _see(pool: Pool, ready: Sequence[Ready], port: int | None) -> tuple[list[NodeSeen], Network]:
    """Ask every node what might disturb, while they try each other.

    Raises:
        DeployError: a node does not answer.
    """
    known = {each.node: each for each in ready}
    # Beside each other, because each waits for round trips and for nvidia-smi; an error is kept until both have ended,
    # or the task group would wrap it and cancel the half that may name the same node better.
    reports, networks, errors = list[Report[NodeSeen]](), list[Network](), list[DeployError]()

    async def see(node: Node) -> NodeSeen:
        each = known[node]
        seen = await see_node(pool.at(node), each.facts, each.folder, each.gpus)
        return attrs.evolve(seen, stray=tuple(name for name in seen.stray if not each.keeps(name)))

    async def see_all() -> None:
        reports.append(await map_nodes(known, see, at_once=CALLS_AT_ONCE))

    async def network() -> None:
        try:
            networks.append(await try_network(pool, list(known), [each.facts for each in ready], port))
        except DeployError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(see_all)
        group.start_soon(network)
    errors += [outcome.error for outcome in reports[0].failures if outcome.error is not None]
    if errors:
        raise errors[0]
    return list(reports[0].values), networks[0]
