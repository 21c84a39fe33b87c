"""How the nodes reach each other: where they meet, and every pair of them, tried at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.preflight.addresses import interface_of, likely_addresses, meeting_addresses
from asyncdeploy.launch.preflight.reachability import Tried, try_pairs
from asyncdeploy.launch.preflight.rendezvous import Meeting, prove_meeting
from asyncdeploy.launch.preflight.verdict import Problem
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import DeployError, PreflightFailed


@attrs.define
class Network:
    """What the nodes' tries to reach each other came to."""

    places: list[tuple[str, str]]
    meeting: Meeting | None = None
    tried: Tried = attrs.field(factory=Tried)
    problems: list[Problem] = attrs.field(factory=list)


async def try_network(pool: Pool, nodes: Sequence[Node], facts: Sequence[NodeFacts], port: int | None) -> Network:
    """Find where the nodes meet; at the same time let all try each other where they probably will.

    What a node uses towards the first one is known for sure only after the meeting. It is nearly always what was
    expected, and then all is known after one connect's time, also where a firewall swallows packets.

    Raises:
        DeployError: a node does not answer.

    On cancellation no port stays taken.
    """
    addresses = meeting_addresses(nodes, facts)
    found = Network(_placed(facts, likely_addresses(facts, addresses[0])))
    errors = list[DeployError]()

    # An error that left the task group would come in an ExceptionGroup and cancel the other half: both are noted here,
    # so that a node that cannot be met does not hide which pairs fail.
    async def pairs() -> None:
        try:
            found.tried = await try_pairs(pool, nodes, found.places)
        except PreflightFailed as error:
            found.problems.append(Problem.of(error))
        except DeployError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(pairs)
        try:
            found.meeting = await prove_meeting(pool, nodes, addresses, port)
        except PreflightFailed as error:
            found.problems.append(Problem.of(error))
        except DeployError as error:
            errors.append(error)
        proven = _placed(facts, found.meeting.locals) if found.meeting is not None else found.places
        if errors or proven != found.places:
            group.cancel_scope.cancel()
    if not errors and proven != found.places:
        # The guess was wrong, and so is what the pairs came to at those addresses: they try again at the proven ones.
        found.places, found.problems = proven, []
        await pairs()
    if errors:
        raise errors[0]
    return found


def _placed(facts: Sequence[NodeFacts], addresses: Sequence[str]) -> list[tuple[str, str]]:
    return [(address, interface_of(known, address)) for known, address in zip(facts, addresses, strict=True)]
