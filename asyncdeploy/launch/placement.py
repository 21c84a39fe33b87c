"""Who runs what where, as arithmetic: node ranks, processes a node, the addresses at which rank 0 may be met. No I/O.

What only a try can tell (which address every node reaches, which port is free) is tried by meeting.py; this room says
what is worth trying, and in which order.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, Self

import attrs

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import PreflightFailed
from asyncdeploy.values.serialize import fields_from_plain, fields_to_plain

LOOPBACK = "127.0.0.1"

MAX_CANDIDATES = 6
"""Addresses of rank 0 that every node tries, all at once; the one that works is among the best six."""


@attrs.frozen
class NodePlace:
    """One node's place in a launch.

    Attributes:
        node: the node.
        node_rank: its number in the order in which the nodes were given.
        nproc: processes (torchrun's ranks) on it.
        address: the address by which the others know it: what the node itself uses towards rank 0.
        interface: the network interface of that address, "" where it is not known.
    """

    node: Node
    node_rank: int
    nproc: int
    address: str
    interface: str = ""

    def __attrs_post_init__(self) -> None:
        if self.nproc < 1:
            raise ValueError(f"NodePlace nproc: at least 1 was expected, got {self.nproc}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return fields_to_plain(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a NodePlace from ``to_dict``'s data."""
        return fields_from_plain(cls, data)


@attrs.frozen
class Placement:
    """The whole plan of a launch: the same for every node.

    Attributes:
        launch_id: the launch it belongs to.
        master_addr: numeric address of node rank 0 that all nodes reach.
        master_port: TCP port there, proven free when the plan was made.
        places: one a node, in node rank order.
        attempt: how often it was restarted.
    """

    launch_id: str
    master_addr: str
    master_port: int
    places: tuple[NodePlace, ...]
    attempt: int = 0

    def __attrs_post_init__(self) -> None:
        if not self.places or [place.node_rank for place in self.places] != list(range(len(self.places))):
            raise ValueError("Placement places: node ranks 0, 1, 2, ... were expected, in order")
        if not 1 <= self.master_port <= 65535:
            raise ValueError(f"Placement master_port: 1 to 65535 was expected, got {self.master_port}")
        ipaddress.ip_address(self.master_addr)

    @property
    def world_size(self) -> int:
        """How many processes there are on all nodes together."""
        return sum(place.nproc for place in self.places)

    def first_rank(self, node_rank: int) -> int:
        """Return the global rank of a node's local rank 0."""
        return sum(place.nproc for place in self.places[:node_rank])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return fields_to_plain(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a Placement from ``to_dict``'s data."""
        return fields_from_plain(cls, data)


class Launcher(Protocol):
    """How the ranks of a launch are started: one command a node, from the plan alone. Torchrun is one.

    Attributes:
        name: what the launch is called; part of its id.
        nproc_per_node: processes a node; None is the node's slots, else its GPUs, else 1.
        master_port: the port to use; None is a free one.
        uneven: whether nodes may have different numbers of processes.
        opens_port: whether node rank 0 listens on the port before any work begins, so that its start can be awaited.
    """

    @property
    def name(self) -> str: ...
    @property
    def nproc_per_node(self) -> int | None: ...
    @property
    def master_port(self) -> int | None: ...
    @property
    def uneven(self) -> bool: ...
    @property
    def opens_port(self) -> bool: ...

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        """Return one command a node, in node rank order."""
        ...


def rank_env(placement: Placement, place: NodePlace) -> dict[str, str]:
    """Return the variables that every rank of a node finds in its environment."""
    return {
        "ASYNCDEPLOY_RUN_ID": placement.launch_id,
        "ASYNCDEPLOY_ATTEMPT": str(placement.attempt),
        "ASYNCDEPLOY_NODE_RANK": str(place.node_rank),
        "ASYNCDEPLOY_NUM_NODES": str(len(placement.places)),
        "ASYNCDEPLOY_NODE_IPS": "\n".join(other.address for other in placement.places),
        "ASYNCDEPLOY_GPUS_PER_NODE": str(place.nproc),
        "NODE_RANK": str(place.node_rank),
        "MASTER_ADDR": placement.master_addr,
        "MASTER_PORT": str(placement.master_port),
    }


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
    seen = Counter(address for other in facts for address in {_plain(text) for _, text in other.addresses})
    one_machine = _one_machine(nodes, facts)
    own = [_plain(text) for _, text in known.addresses if one_machine or seen[_plain(text)] == 1]
    others = [[_plain(text) for _, text in other.addresses] for other in facts[1:]]
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
    own = [_plain(text) for _, text in facts.addresses] or [facts.ssh_address or address]
    return max(own, key=lambda text: _shared_bits(address, text))


def interface_of(facts: NodeFacts, address: str) -> str:
    """Return the interface that has this address on the node, "" if none is known to."""
    if is_loopback(address):
        return "lo" if facts.system == "Linux" else ""
    return next((interface for interface, text in facts.addresses if _plain(text) == address), "")


def is_loopback(text: str) -> bool:
    """Return whether a host or address means the machine itself."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return text == "localhost"


def _one_machine(nodes: Sequence[Node], facts: Sequence[NodeFacts]) -> bool:
    if all(is_loopback(node.host) and node.jump is None for node in nodes):
        return True  # or they are tunnels: then the proof on loopback fails, and the other addresses are tried
    return bool(facts[0].identity) and len({known.identity for known in facts}) == 1


def _plain(text: str) -> str:
    """An address without the length of its prefix."""
    return text.partition("/")[0]


def _nearness(address: str, others: Sequence[Sequence[str]]) -> tuple[int, bool]:
    """How many leading bits an address shares with the farthest of the other nodes, and whether it is a private one."""
    try:
        private = ipaddress.ip_address(address).is_private
    except ValueError:
        return (-1, False)
    nearest = (max((_shared_bits(address, text) for text in texts), default=0) for texts in others)
    return (min(nearest, default=0), private)


def _shared_bits(one: str, other: str) -> int:
    try:
        first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    except ValueError:
        return 0
    if first.version != second.version:
        return 0
    return first.max_prefixlen - (int(first) ^ int(second)).bit_length()
