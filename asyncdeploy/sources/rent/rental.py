"""What was rented: Rental, a value that travels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import attrs

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.serialize import PlainData


@attrs.frozen
class Rental(PlainData):
    """Machines that are ours for a while.

    Attributes:
        id: by which ``end_rental`` finds it, from any machine.
        nodes: in the order of their ranks; ``key_path`` is the rental's own key, on this machine.
        pins: each node's name with a fingerprint of its host key.
        usd_per_hour: what all of them cost together, as the provider says it of what runs.
        until: when anybody's ``reap_rentals`` may end them, in seconds since 1970.
        notes: what people should know, such as host keys that were taken as they came.
        known_hosts: the host keys as lines of a known_hosts file, for programs that are not ours; while the rental
            lasts such a file lies beside its key, on this machine: ``RENTAL.known_hosts``.
    """

    id: str
    nodes: tuple[Node, ...]
    pins: tuple[tuple[str, str], ...]
    usd_per_hour: float
    until: int
    notes: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()

    @property
    def host_keys(self) -> HostKeys:
        """The rule by which a Pool trusts exactly these machines."""
        return HostKeys.pinned(pins_by_name(self.pins))

    def describe(self) -> str:
        """Return what it costs and until when, in one line."""
        left_h = max(0.0, self.until - time.time()) / 3600
        return (
            f"rental {self.id}: {len(self.nodes)} nodes, ${self.usd_per_hour:.2f} an hour together, "
            f"${self.usd_per_hour * left_h:.2f} until {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.until))}"
        )


def pins_by_name(pins: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return pins as ``HostKeys.pinned`` takes them."""
    found: dict[str, list[str]] = {}
    for name, pin in pins:
        found.setdefault(name, []).append(pin)
    return found


def known_hosts_lines(nodes: Sequence[Node], keys: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return lines of a known_hosts file; ``keys`` are nodes' names with the public lines of their host keys."""
    where = {node.name: node.host if node.port in (None, 22) else f"[{node.host}]:{node.port}" for node in nodes}
    return tuple(f"{where[name]} {' '.join(key.split()[:2])}" for name, key in keys)
