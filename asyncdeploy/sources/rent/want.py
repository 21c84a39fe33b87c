"""What is wanted, what is offered, what is there: Want, Offer, Instance. Prices in US dollars an hour."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from asyncdeploy.nodes.names import shown
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.serialize import PlainData

MAX_NODES = 64
"""Machines of one rental: they are booked one after the other, a provider takes up to 12 s for each."""
MAX_DISK_GB = 100_000

State = Literal["booting", "ready", "broken", "ending", "gone"]


@checked_class
@attrs.frozen
class Want(PlainData):
    """What is to be rented.

    Args:
        gpu: the GPU, as the provider writes it or a part of it: "RTX 4090", "H100".
        gpus: GPUs in each machine.
        nodes: machines.
        usd_per_hour: the most, for ALL machines together.
        disk_gb: room on each.
        image: a container's image, or a system's where the provider rents machines; None is the provider's usual one.
        regions: where they may stand, as the provider writes it; () is anywhere.
        together: several machines must share a private network; a provider whose offers do not say so is left out, and
            machines that get no address in one are given back.

    Raises:
        ValueError: a number is below 1, the price is not above 0, or the GPU's name has no letter or digit.
    """

    gpu: str
    gpus: int = attrs.field(default=1, kw_only=True)
    nodes: int = attrs.field(default=1, kw_only=True)
    usd_per_hour: float = attrs.field(kw_only=True)
    disk_gb: int = attrs.field(default=100, kw_only=True)
    image: str | None = attrs.field(default=None, kw_only=True)
    regions: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    together: bool = attrs.field(default=True, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not _words(self.gpu):  # every GPU's name holds nothing
            raise ValueError(f"Want gpu: the name of a GPU was expected, such as 'RTX 4090', got {shown(self.gpu)}")
        for field, value, most in (
            ("gpus", self.gpus, 64),
            ("nodes", self.nodes, MAX_NODES),
            ("disk_gb", self.disk_gb, MAX_DISK_GB),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"Want {field}: a whole number from 1 to {most} was expected, got {value!r}")
        if not 0 < self.usd_per_hour < math.inf:
            raise ValueError(f"Want usd_per_hour: a price above 0 was expected, got {shown(self.usd_per_hour)}")
        if self.image is not None and (not self.image.isprintable() or " " in self.image or not self.image):
            raise ValueError(f"Want image: the name of an image was expected, got {shown(self.image)}")

    @property
    def is_joined(self) -> bool:
        """Whether there are several machines that must share a private network."""
        return self.together and self.nodes > 1

    def takes_gpu(self, name: str) -> bool:
        """Return whether a GPU's name is the one that is wanted, or holds its words one after the other."""
        have, wanted = _words(name), _words(self.gpu)
        return any(have[i : i + len(wanted)] == wanted for i in range(len(have) - len(wanted) + 1))


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


@attrs.frozen
class Offer(PlainData):
    """What a provider would rent.

    Attributes:
        provider: its name.
        id: what the provider is told to get it.
        gpu / gpus: the GPUs of one machine.
        usd_per_hour: of one machine, our disk included where the provider says its price.
        count: how many such machines there are, as far as it is known.
        place: where they stand; machines of one place share a private network, "" where that is not known.
    """

    provider: str
    id: str
    gpu: str
    gpus: int
    usd_per_hour: float
    count: int = 1
    place: str = ""

    def __str__(self) -> str:
        where = f", {self.place}" if self.place else ""
        return f"{self.provider} {self.gpus} x {self.gpu} at ${self.usd_per_hour:.2f}/h{where}"


@attrs.frozen
class Instance:
    """A machine as its provider's list shows it.

    Attributes:
        name: the name or label at the provider; by it alone it is known whose it is.
        state: "ready" means that the provider says so and that host and port are there; "gone" that it is ended.
        usd_per_hour: what it costs; None while the provider does not say.
        address: its private address, "" if there is none.
        note: the provider's own word about what is wrong.
    """

    id: str
    name: str
    state: State
    host: str = ""
    port: int = 22
    user: str = "root"
    address: str = ""
    usd_per_hour: float | None = None
    note: str = ""


@attrs.frozen
class Order:
    """One machine to be made: its name, our keys for it, and what is wanted. The host's private key never shows."""

    name: str
    want: Want
    public_key: str
    host_public_key: str
    host_private_key: str = attrs.field(repr=False)
