"""What was rented: Rental, a value that travels."""

from __future__ import annotations

import time

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
    """

    id: str
    nodes: tuple[Node, ...]
    pins: tuple[tuple[str, str], ...]
    usd_per_hour: float
    until: int
    notes: tuple[str, ...] = ()

    @property
    def host_keys(self) -> HostKeys:
        """The rule by which a Pool trusts exactly these machines."""
        pins: dict[str, list[str]] = {}
        for name, pin in self.pins:
            pins.setdefault(name, []).append(pin)
        return HostKeys.pinned(pins)

    def describe(self) -> str:
        """Return what it costs and until when, in one line."""
        left_h = max(0.0, self.until - time.time()) / 3600
        return (
            f"rental {self.id}: {len(self.nodes)} nodes, ${self.usd_per_hour:.2f} an hour together, "
            f"${self.usd_per_hour * left_h:.2f} until {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.until))}"
        )
