"""Let every node connect to every other one, at ports of its own: what a launch's ranks will do, tried beforehand.

That all reach rank 0 says nothing of two others (fault F11), and NCCL and gloo connect all to all. Both take random
ports of the ephemeral range, where a firewall may have a rule of its own, so two ports of each node are tried.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.preflight.verdict import MAX_WORD, NO_ANSWER, Unreached
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.parse import Node, node_ranks
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.worker import Call, call_program
from asyncdeploy.values.errors import PreflightFailed, ProtocolError

PAIRS_S = 20.0
"""For all pairs: two round trips and a connect; the nodes' ports close by themselves after 60 s."""
CONNECT_S = 4.0
"""The third SYN goes out after 3 s; where a firewall swallows packets no answer comes at all."""
ALL_PAIRS = 128
"""Up to so many nodes each connects to every other; of more, to the next 127 in rank order, or the tries would be
thousands a node."""
PORTION = 16
"""Nodes whose tries are sent, or read, in one turn of the loop: a millisecond each, and there may be thousands."""
TRIES = "the tries to reach each other"
"""What nodes are asked for here, in errors."""


@attrs.frozen
class Tried:
    """What became of it: the pairs that failed, and of each node a port that was free and that the others tried."""

    unreached: tuple[Unreached, ...] = ()
    ports: tuple[int, ...] = ()


async def try_pairs(pool: Pool, nodes: Sequence[Node], places: Sequence[tuple[str, str]]) -> Tried:
    """Return which nodes cannot connect to which.

    Args:
        pool: the connections.
        nodes: in node rank order.
        places: the address that the ranks of each will use, and the name of its interface.

    Raises:
        PreflightFailed: a node has no free port, or they were not done in time.
        DeployError: a node does not answer.

    On cancellation no port stays taken.
    """
    if len(nodes) < 2:
        return Tried()
    gathering, ranks = _Gathering(len(nodes)), node_ranks(nodes)
    # A nonce of its own each: who reaches itself instead, at an address that two nodes have, must not take it for the
    # other one.
    nonces = [secrets.token_hex(16) for _ in nodes]
    targets: dict[int, str] = {}  # each is written once, for the 127 that try it

    async def work(node: Node) -> list[Unreached]:
        rank = ranks[node]
        others = [(rank + step) % len(nodes) for step in range(1, min(len(nodes), ALL_PAIRS))]
        request = {"do": "pairs", "nonce": nonces[rank], "timeout_s": CONNECT_S}
        async with call_program(pool.at(node), "launch.ports", json.dumps(request).encode()) as call:
            gathering.ports[rank] = ports = await _taken_ports(call)
            targets[rank] = ", ".join(json.dumps([places[rank][0], port, nonces[rank]]) for port in ports)
            # Who tried earlier would find ports closed that are only not open yet.
            await gathering.until("all listen")
            call.send(b"T", f"[{', '.join(targets[other] for other in others)}]".encode())
            kind, payload = await call.receive()
            await gathering.turn()
            tried = [(other, port) for other in others for port in gathering.ports[other]]
            failed = _failed(node.name, tried, kind, payload)
            del tried, payload  # 40 KB a node, while all wait for the last one
            # And who left earlier would close its ports to those that are slower.
            await gathering.until("all have tried")
            call.send(b"D")
            await call.receive()
        return [
            Unreached(node.name, nodes[other].name, *places[other], _in_words(gathering.ports[other], problems))
            for other, problems in failed.items()
        ]

    with anyio.move_on_after(PAIRS_S):
        # All of them at once, whatever the number: with fewer the first ones would wait for the rest for ever. One that
        # fails ends the others, which would wait for it.
        report = await map_nodes(nodes, work, at_once=len(nodes), stop_on_failure=True)
        for outcome in report.failures:
            if outcome.error is not None and outcome.state != "cancelled":
                raise outcome.error
        # The low one may serve the supervisors' link: no outgoing connection takes it between now and the start.
        ports = tuple(gathering.ports[rank][0] for rank in range(len(nodes)))
        return Tried(tuple(each for outcome in report for each in outcome.value or ()), ports)
    raise PreflightFailed(
        nodes[0].name, f"the nodes did not try each other within {PAIRS_S:.0f} s", "look at their load"
    )


class _Gathering:
    """Where all nodes wait for each other; one that fails cancels the others, so that none waits for it."""

    def __init__(self, count: int) -> None:
        self.ports: dict[int, tuple[int, ...]] = {}
        self._count = count
        self._portion = asyncio.Semaphore(PORTION)
        self._there: dict[str, int] = {}
        self._events: dict[str, anyio.Event] = {}

    async def until(self, what: str) -> None:
        event = self._events.setdefault(what, anyio.Event())
        self._there[what] = self._there.get(what, 0) + 1
        if self._there[what] == self._count:
            event.set()
        await event.wait()
        await self.turn()

    async def turn(self) -> None:
        """Go on a few at a time, and not all that were waited for in one turn of the loop."""
        async with self._portion:
            await asyncio.sleep(0)


async def _taken_ports(call: Call) -> tuple[int, ...]:
    """Return where a node listens: below the ephemeral range, as a launch's meeting port, and in it, as its ranks."""
    kind, payload = await call.receive()
    answer = Answer.read(call.remote.node.name, TRIES, payload)
    if kind == b"Z":
        problem = answer["error"].text(limit=MAX_WORD)
        raise PreflightFailed(call.remote.node.name, f"no free port was found: {problem}")
    if kind != b"P":
        raise ProtocolError(call.remote.node.name, f"{TRIES}: two ports were expected, got a frame {kind!r}")
    low, high = (port.whole(1, 65535) for port in answer.items(2))
    return low, high


def _failed(name: str, tries: Sequence[tuple[int, int]], kind: bytes, payload: bytes) -> dict[int, dict[int, str]]:
    """Return which of a node's tries failed, and why: by rank, then by port."""
    if kind != b"R":
        raise ProtocolError(name, f"{TRIES}: what became of each was expected, got a frame {kind!r}")
    failed: dict[int, dict[int, str]] = {}
    for (other, port), each in zip(tries, Answer.read(name, TRIES, payload).items(len(tries)), strict=True):
        if not each["peer"].is_there:
            failed.setdefault(other, {})[port] = each["error"].text(NO_ANSWER, MAX_WORD) or NO_ANSWER
    return failed


def _in_words(ports: Sequence[int], problems: Mapping[int, str]) -> str:
    """Return what became of one node's tries to reach another, of which some failed."""
    port, problem = next(iter(problems.items()))
    good = [str(each) for each in ports if each not in problems]
    return f"{problem} at port {port}, though port {good[0]} answers" if good else problem
