"""Who runs what where, as data: Placement, a launch's plan; Launcher, which writes the commands of one. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from itertools import accumulate
from typing import Protocol, runtime_checkable

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command
from asyncdeploy.values.serialize import PlainData

SHOWN = 20
"""Of wrong node ranks, in an error."""


@attrs.frozen
class NodePlace(PlainData):
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


@attrs.frozen
class Placement(PlainData):
    """The whole plan of a launch: the same for every node.

    Attributes:
        launch_id: the launch it belongs to.
        master_addr: numeric address of node rank 0 that all nodes reach.
        master_port: TCP port there, proven free when the plan was made.
        places: one a node, in node rank order.
        attempt: how often it was restarted.
        grace_s: seconds from TERM to KILL whenever the launch is stopped.
        addresses: the nodes' addresses, a line each: one text, which all of thousands are told.
    """

    launch_id: str
    master_addr: str
    master_port: int
    places: tuple[NodePlace, ...]
    attempt: int = 0
    grace_s: float = 5.0
    addresses: str = attrs.field(init=False, eq=False, repr=False)
    _firsts: tuple[int, ...] = attrs.field(init=False, eq=False, repr=False)

    @addresses.default
    def _(self) -> str:
        return "\n".join(place.address for place in self.places)

    @_firsts.default
    def _(self) -> tuple[int, ...]:
        return tuple(accumulate((place.nproc for place in self.places), initial=0))

    def __attrs_post_init__(self) -> None:
        ranks = [place.node_rank for place in self.places]
        if not ranks or ranks != list(range(len(ranks))):
            raise ValueError(f"Placement places: node ranks 0, 1, 2, ... were expected, in order, got {ranks[:SHOWN]}")
        if not 1 <= self.master_port <= 65535:
            raise ValueError(f"Placement master_port: 1 to 65535 was expected, got {self.master_port}")
        ipaddress.ip_address(self.master_addr)

    @property
    def world_size(self) -> int:
        """How many processes there are on all nodes together."""
        return self._firsts[-1]

    def first_rank(self, node_rank: int) -> int:
        """Return the global rank of a node's local rank 0."""
        return self._firsts[node_rank]


class Launcher(Protocol):
    """How the ranks of a launch are started: one command a node, from the plan alone. Torchrun is one.

    Attributes:
        name: what the launch is called; part of its id.
        nproc_per_node: processes a node; None is the node's slots, else the GPUs that its ranks see, else 1.
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


@runtime_checkable
class LauncherWithVariables(Launcher, Protocol):
    """A Launcher that decides about variables of its ranks, and can say so beforehand."""

    def variable(self, name: str) -> str | None:
        """Return what its ranks find in a variable, None where that is the node's to say."""
        ...

    def keeps(self, name: str) -> bool:
        """Return whether its ranks keep a variable of the session (Slurm, MPI) on the node."""
        ...


@runtime_checkable
class EngineLauncher(Launcher, Protocol):
    """A Launcher whose ranks are an engine (Ray, Dask) that programs of people, its drivers, compute with.

    All nodes stand in it, or none stays; it does not end by itself.

    Attributes:
        package: the engine's distribution, which every environment must have, in one version.
        least_version: of it: (2, 52) is 2.52 and newer.
        join_s: seconds that the nodes have to join it, from their start.
        shared_memory_bytes: of /dev/shm, what each node should have.
        prover: the program of node_side.engines that sees who has joined.
    """

    @property
    def package(self) -> str: ...
    @property
    def least_version(self) -> tuple[int, ...]: ...
    @property
    def join_s(self) -> float: ...
    @property
    def shared_memory_bytes(self) -> int: ...
    @property
    def prover(self) -> str: ...

    def driver_env(self, placement: Placement) -> Mapping[str, str]:
        """Return the variables by which a driver finds the engine, beside those that the engine itself has."""
        ...

    def members(self, placement: Placement) -> tuple[str, ...]:
        """Return the prover's arguments: whom it has to see, in node rank order."""
        ...


@checked
def rank_env(placement: Placement, place: NodePlace) -> dict[str, str]:
    """Return the variables that every rank of a node finds in its environment.

    Args:
        placement: the launch's.
        place: the node's, in it.
    """
    return {
        "ASYNCDEPLOY_RUN_ID": placement.launch_id,
        "ASYNCDEPLOY_ATTEMPT": str(placement.attempt),
        "ASYNCDEPLOY_NODE_RANK": str(place.node_rank),
        "ASYNCDEPLOY_NUM_NODES": str(len(placement.places)),
        "ASYNCDEPLOY_NODE_IPS": placement.addresses,
        "ASYNCDEPLOY_GPUS_PER_NODE": str(place.nproc),
        "ASYNCDEPLOY_GRACE_S": f"{placement.grace_s:g}",
        "NODE_RANK": str(place.node_rank),
        "MASTER_ADDR": placement.master_addr,
        "MASTER_PORT": str(placement.master_port),
    }
