"""Where the ranks of a launch meet: an address of node rank 0 and a port there, proven from every node beforehand.

Proven and not worked out (fault F11): behind NAT a node's own addresses say little of how others reach it, a host name
means another thing on another node, and torchrun shows a wrong choice late: with its port held by a stranger node 0
fails after 7 s, while node 1 hangs past its own timeout.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.preflight.verdict import MAX_WORD, NO_ANSWER, OPEN_HINT
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import Call, ask, call_program
from asyncdeploy.values.errors import PreflightFailed, ProtocolError

PROOF_S = 45.0
"""For the whole proof: a slow name server, a connect that loses packets, round trips; the node listens for 60 s."""
CONNECT_S = 4.0
"""How long a node waits for an answer; where a firewall swallows packets none comes. A third SYN goes out after 3 s."""
MORE_S = 0.5
"""How long the other addresses get once one has answered: which swallow packets are then not waited for."""
PROOF = "the proof of a meeting port"
"""What nodes are asked for here, in errors."""


@attrs.frozen
class Meeting:
    """What was proven.

    Attributes:
        address: numeric address of node rank 0 that every node reaches.
        port: TCP port there, free a moment ago.
        locals: the address that each node itself uses towards it, in node rank order.
    """

    address: str
    port: int
    locals: tuple[str, ...]


async def prove_meeting(
    pool: Pool, nodes: Sequence[Node], addresses: Sequence[str], port: int | None = None
) -> Meeting:
    """Take a port on the first node for a moment, let all nodes connect to it, and return what worked.

    Args:
        pool: the connections.
        nodes: in node rank order; the first one listens, all of them connect (it is its own guest too).
        addresses: where the first node may be met, best first.
        port: the port to prove, None for a free one below the ephemeral range.

    Raises:
        PreflightFailed: the port is taken, or a node cannot reach the first one; names both.
        ToolMissing: a node has no python3.
        DeployError: a node does not answer.

    On cancellation the port is free again as soon as the channel is closed.
    """
    # Who answers must know the nonce: a stranger's server at that port, or another machine at that address, does not.
    first, nonce = nodes[0], secrets.token_hex(16)
    with anyio.move_on_after(PROOF_S):
        wanted = {"do": "listen", "nonce": nonce, "port": port or 0}
        async with call_program(pool.at(first), "launch.ports", json.dumps(wanted).encode()) as call:
            taken = await _taken_port(call, first, port)
            # All nodes try all addresses at once: one after the other, each that swallows packets would cost CONNECT_S.
            request = {"do": "connect", "nonce": nonce, "port": taken, "targets": list(addresses)}
            answers = await _all_answers(pool, nodes, {**request, "timeout_s": CONNECT_S, "more_s": MORE_S})
            # Each has found some address that works, but not all the same one: now each waits for every address.
            if _shared(addresses, answers) is None and any(_left_out(addresses, answer) for answer in answers):
                answers = await _all_answers(pool, nodes, {**request, "timeout_s": CONNECT_S, "more_s": CONNECT_S})
            # The port must be free again before its address is told to anybody, or rank 0 could find it taken by us.
            call.send(b"D")
            await call.receive()
        return _chosen(nodes, addresses, taken, answers)
    raise PreflightFailed(
        first.name,
        f"the nodes did not prove within {PROOF_S:.0f} s that they reach it",
        "look at their load and name servers",
    )


async def port_opened(remote: Remote, launch_id: str, port: int) -> bool | None:
    """Return whether a process of the launch listens on the port; None where the node cannot tell.

    Raises:
        DeployError: the node does not answer.
    """
    found = (await _ask(remote, {"do": "opened", "nonce": launch_id, "port": port}))["opened"]
    return found.flag() if found.is_there else None


async def _taken_port(call: Call, first: Node, port: int | None) -> int:
    kind, payload = await call.receive()
    answer = Answer.read(first.name, PROOF, payload)
    if kind == b"Z":
        problem = answer["error"].text(limit=MAX_WORD)
        what = f"port {port} cannot be taken" if port else "no free port was found"
        raise PreflightFailed(
            first.name, f"{what}: {problem}", "leave master_port out to get a free one" if port else ""
        )
    if kind != b"P":
        raise ProtocolError(first.name, f"{PROOF}: a port was expected, got a frame {kind!r}")
    return answer.whole(1, 65535)


async def _all_answers(pool: Pool, nodes: Sequence[Node], request: Mapping[str, Any]) -> tuple[Answer, ...]:
    report = await map_nodes(nodes, lambda node: _ask(pool.at(node), request), at_once=CALLS_AT_ONCE)
    for outcome in report.failures:
        if outcome.error is not None:
            raise outcome.error
    return tuple(report.values)


async def _ask(remote: Remote, request: Mapping[str, Any]) -> Answer:
    return await ask(remote, "launch.ports", request, what=PROOF)


def _chosen(nodes: Sequence[Node], addresses: Sequence[str], port: int, answers: Sequence[Answer]) -> Meeting:
    """Return the first address that every node reached."""
    shared = _shared(addresses, answers)
    if shared is not None:
        results = [_result(answer[shared]) for answer in answers]
        # The first node may know its own name as a loopback address, so the last one is asked.
        return Meeting(results[-1][0], port, tuple(local for _, local, _ in results))
    misses = [_misses(address, answers) for address in addresses]
    tried = "\n".join(
        f"{address}: {len(lost)} of {len(nodes)} nodes cannot reach it"
        for address, lost in zip(addresses, misses, strict=True)
    )
    # The first node reaches itself, so all but one are all others: then it is no single pair's fault. Of two nodes
    # nobody can tell whose fault it is.
    if len(nodes) > 2 and all(len(lost) >= len(nodes) - 1 for lost in misses):
        raise PreflightFailed("", f"no other node reaches {nodes[0].name} at {', '.join(addresses)}", OPEN_HINT, tried)
    # The address that most nodes reach is the one that was meant; who misses it is the one to look at.
    best = min(range(len(addresses)), key=lambda index: len(misses[index]))
    rank = misses[best][-1]
    problem = _result(answers[rank][addresses[best]])[2]
    raise PreflightFailed(
        nodes[rank].name,
        f"cannot reach {nodes[0].name} at {addresses[best]} port {port}: {problem}",
        OPEN_HINT,
        tried,
    )


def _misses(address: str, answers: Sequence[Answer]) -> list[int]:
    return [rank for rank, answer in enumerate(answers) if not _result(answer[address])[0]]


def _shared(addresses: Sequence[str], answers: Sequence[Answer]) -> str | None:
    return next((address for address in addresses if not _misses(address, answers)), None)


def _left_out(addresses: Sequence[str], answer: Answer) -> bool:
    """Whether a node did not wait for every address, because one had answered."""
    return any(each.is_there and each["left"].flag() for each in (answer[address] for address in addresses))


def _result(answer: Answer) -> tuple[str, str, str]:
    """Return (peer, local, error) of one node's try, checked: what a node says is used in commands for all others."""
    if answer.is_there and answer["peer"].is_there:
        return _numeric(answer["peer"]), _numeric(answer["local"]), ""
    return "", "", answer["error"].text(NO_ANSWER, MAX_WORD) if answer.is_there else NO_ANSWER


def _numeric(answer: Answer) -> str:
    try:
        address = ipaddress.ip_address(answer.exact())
    except ValueError:
        raise answer.wrong("an address") from None
    # A socket that speaks both families says ::ffff:10.0.0.1; the node's interfaces, by which it is found, do not.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
