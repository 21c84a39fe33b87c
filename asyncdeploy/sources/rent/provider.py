"""What a provider must be able to do: Provider, a protocol of five methods."""

from __future__ import annotations

from typing import Protocol

from asyncdeploy.sources.rent.want import Instance, Offer, Order, Want


class Provider(Protocol):
    """Who rents out machines; somebody's own is a class with these two words and five methods.

    Attributes:
        name: how people call it.
        console: where its machines can be seen and ended by hand.
        plants_host_key: whether a machine starts with the host key of the order; else it is taken as it comes, once.
    """

    name: str
    console: str
    plants_host_key: bool

    async def offers(self, want: Want) -> tuple[Offer, ...]:
        """Return what there is.

        Raises:
            ProviderError: it does not say.
        """
        ...

    async def create(self, offer: Offer, order: Order) -> str:
        """Make one machine under ``order.name`` and return its id.

        The request is sent once, and again only where the provider says that it did not look at it (HTTP 429).

        Raises:
            ProviderError: it was not made, or nobody knows (``is_definite``).
        """
        ...

    async def instances(self) -> tuple[Instance, ...]:
        """Return every machine of the account, ours and others'.

        Raises:
            ProviderError: it does not say; then nothing is known of any.
        """
        ...

    async def end(self, instance: Instance) -> None:
        """End a machine for good, with its disks; that it is gone is what ``instances`` says.

        Raises:
            ProviderError: it was refused, or nobody knows.
        """
        ...

    async def tidy(self, label: str) -> None:
        """Take away what else was left in the account under this label: a key. That there is none is no error.

        Raises:
            ProviderError: it could not be done.
        """
        ...
