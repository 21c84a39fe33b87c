"""What follows from what nodes said of themselves: processes a node, addresses worth a try. Arithmetic; no I/O."""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from collections.abc import Sequence

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import PreflightFailed

LOOPBACK = "127.0.0.1"
MAX_CANDIDATES = 6
"""Addresses of rank 0 that every node tries, all at once; the one that works is among the best six."""


def count_processes(
    nodes: Sequence[Node], facts: Sequence[NodeFacts], nproc: int | None = None, *, uneven: bool = False
) -> tuple[int, ...]:
    """Return how many processes each node gets: ``nproc``, else its slots, else its GPUs, else 1.

    Raises:
        PreflightFailed: the numbers differ, and nobody said that they may.
    """
    counts = tuple(nproc or node.slots or len(known.gpus) or 1 for node, known in zip(nodes, facts, strict=True))
    if len(set(counts)) > 1 and not uneven:
        usual = Counter(counts).most_common(1)[0][0]
        odd = next(index for index, count in enumerate(counts) if count != usual)
        raise PreflightFailed(
            nodes[odd].name,
            f"{counts[odd]} processes would run here, but {usual} on {nodes[counts.index(usual)].name}",
            "give nproc_per_node, make the slots equal, or say uneven=True if the program can live with it",
        )
    return counts


def meeting_addresses(nodes: Sequence[Node], facts: Sequence[NodeFacts]) -> tuple[str, ...]:
    """Return the addresses at which the nodes may meet rank 0, best first, for every node to try.

    A given ``address`` is the only one. Loopback comes first where all nodes seem to be one machine, and never
    elsewhere. Then those of rank 0's addresses that lie nearest to an address of every other node (a private network
    before a public one), what sshd saw of it, and at last the host that we connect to.
    """
    first, known = nodes[0], facts[0]
    if first.address:
        return (first.address,)
    if len(nodes) == 1:
        return (LOOPBACK,)
    # The same address on two nodes (docker0) leads each of them to itself.
    seen = Counter(address for other in facts for address in {_bare(text) for _, text in other.addresses})
    one_machine = _one_machine(nodes, facts)
    own = [_bare(text) for _, text in known.addresses if one_machine or seen[_bare(text)] == 1]
    others = [[_bare(text) for _, text in other.addresses] for other in facts[1:]]
    own.sort(key=lambda address: _nearness(address, others), reverse=True)
    wanted = [LOOPBACK] if one_machine else []
    wanted += [*own, known.ssh_address, first.host]
    usable = [address for address in dict.fromkeys(wanted) if address and (one_machine or not is_loopback(address))]
    return tuple(usable[:MAX_CANDIDATES])


def likely_addresses(facts: Sequence[NodeFacts], meeting: str) -> tuple[str, ...]:
    """Return what each node will probably use towards the first one: of its own addresses the nearest to the meeting.

    Args:
        facts: of the nodes, in node rank order.
        meeting: where the first one will probably be met.
    """
    rest = [meeting if is_loopback(meeting) else _nearest_of(known, meeting) for known in facts[1:]]
    return (meeting, *rest)


def _nearest_of(facts: NodeFacts, address: str) -> str:
    own = [_bare(text) for _, text in facts.addresses] or [facts.ssh_address or address]
    return max(own, key=lambda text: _shared_bits(address, text))


def interface_of(facts: NodeFacts, address: str) -> str:
    """Return the interface that has this address on the node, "" if none is known to."""
    if is_loopback(address):
        return "lo" if facts.system == "Linux" else ""
    return next((interface for interface, text in facts.addresses if _bare(text) == address), "")


def is_loopback(text: str) -> bool:
    """Return whether a host or address means the machine itself."""
    address = _read(text)
    return text == "localhost" if address is None else address.is_loopback


def _one_machine(nodes: Sequence[Node], facts: Sequence[NodeFacts]) -> bool:
    if all(is_loopback(node.host) and node.jump is None for node in nodes):
        return True  # or they are tunnels: then the proof on loopback fails, and the other addresses are tried
    return bool(facts[0].identity) and len({known.identity for known in facts}) == 1


def _bare(text: str) -> str:
    """An address without the length of its prefix."""
    return text.partition("/")[0]


def _nearness(address: str, others: Sequence[Sequence[str]]) -> tuple[int, bool]:
    """How many leading bits an address shares with the farthest of the other nodes, and whether it is a private one."""
    read = _read(address)
    if read is None:
        return (-1, False)
    nearest = (max((_shared_bits(address, text) for text in texts), default=0) for texts in others)
    return (min(nearest, default=0), read.is_private)


def _shared_bits(one: str, other: str) -> int:
    first, second = _read(one), _read(other)
    if first is None or second is None or first.version != second.version:
        return 0
    return first.max_prefixlen - (int(first) ^ int(second)).bit_length()


@functools.lru_cache(1 << 14)  # some of each node: each is compared with several, and reading one takes 10 us
def _read(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, None for what is none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
