"""Let every node connect to every other one, at a port of its own: what a launch's ranks will do, tried beforehand."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

import anyio
import attrs

from asyncdeploy.errors import PreflightFailed, ProtocolError
from asyncdeploy.nodes import Node
from asyncdeploy.parallel import map_nodes
from asyncdeploy.pool import Pool
from asyncdeploy.verdict import NodeLook, Unreached
from asyncdeploy.worker import Call, call_program

PAIRS_S = 20.0
"""For all pairs: two round trips and a connect; the nodes' ports close by themselves after 60 s."""
CONNECT_S = 4.0
"""The third SYN goes out after 3 s; where a firewall swallows packets no answer comes at all."""
ALL_PAIRS = 128
"""Up to so many nodes each connects to every other; of more, to the next 127 in rank order, or the tries would be
thousands a node."""
MAX_WORD = 200


@attrs.frozen
class Tried:
    """What became of it: the pairs that failed, and a port of each node that was free and that the others tried."""

    unreached: tuple[Unreached, ...] = ()
    ports: tuple[int, ...] = ()


async def try_pairs(pool: Pool, nodes: Sequence[Node], looks: Sequence[NodeLook]) -> Tried:
    """Return which nodes cannot connect to which.

    Args:
        pool: the connections.
        nodes: in node rank order.
        looks: of the same nodes, with the addresses that their ranks will use.

    Raises:
        PreflightFailed: a node has no free port, or they were not done in time.
        DeployError: a node does not answer.

    On cancellation no port stays taken.
    """
    if len(nodes) < 2:
        return Tried()
    gathering, nonce = _Gathering(len(nodes)), secrets.token_hex(16)
    order = {node: rank for rank, node in enumerate(nodes)}

    async def work(node: Node) -> list[Unreached]:
        rank = order[node]
        others = [(rank + step) % len(nodes) for step in range(1, min(len(nodes), ALL_PAIRS))]
        request = {"do": "pairs", "nonce": nonce, "timeout_s": CONNECT_S}
        async with call_program(pool.at(node), "ports", json.dumps(request).encode()) as call:
            gathering.ports[rank] = await _taken_port(call)
            await gathering.until("all listen")
            targets = [[looks[other].address, gathering.ports[other]] for other in others]
            call.send(b"T", json.dumps(targets).encode())
            problems = await _problems(call, len(others))
            await gathering.until("all have tried")
            call.send(b"D")
            await call.receive()
        return [
            Unreached(node.name, looks[other].node, looks[other].address, looks[other].interface, problem)
            for other, problem in zip(others, problems, strict=True)
            if problem
        ]

    with anyio.move_on_after(PAIRS_S):
        report = await map_nodes(nodes, work, at_once=len(nodes), stop_on_failure=True)
        for outcome in report.failures:
            if outcome.error is not None and outcome.state != "cancelled":
                raise outcome.error
        ports = tuple(gathering.ports[rank] for rank in range(len(nodes)))
        return Tried(tuple(each for outcome in report for each in outcome.value or ()), ports)
    raise PreflightFailed(
        nodes[0].name, f"the nodes did not try each other within {PAIRS_S:.0f} s", "look at their load"
    )


class _Gathering:
    """Where all nodes wait for each other; one that fails cancels the others, so that none waits for it."""

    def __init__(self, count: int) -> None:
        self.ports: dict[int, int] = {}
        self._count = count
        self._there: dict[str, int] = {}
        self._events: dict[str, anyio.Event] = {}

    async def until(self, what: str) -> None:
        event = self._events.setdefault(what, anyio.Event())
        self._there[what] = self._there.get(what, 0) + 1
        if self._there[what] == self._count:
            event.set()
        await event.wait()


async def _taken_port(call: Call) -> int:
    kind, payload = await call.receive()
    if kind == b"P" and payload.isdigit() and 1 <= int(payload) <= 65535:
        return int(payload)
    if kind == b"Z":
        raise PreflightFailed(call.remote.node.name, f"no free port was found: {printable(payload)}")
    raise ProtocolError(call.remote.node.name, f"a port was expected, got {payload[:40]!r}")


async def _problems(call: Call, count: int) -> list[str]:
    """Return what became of each try, "" where it worked."""
    kind, payload = await call.receive()
    try:
        found = json.loads(payload) if kind == b"R" else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != count:
        raise ProtocolError(call.remote.node.name, "a try to reach the other nodes was answered by nonsense")
    said = [each if isinstance(each, dict) else {} for each in found]
    return ["" if "peer" in each else printable(each.get("error", "it gave no answer")) for each in said]


def printable(said: object) -> str:
    """Return a node's own words so that they can be shown."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return "".join(letter for letter in text[:MAX_WORD] if letter.isprintable())
