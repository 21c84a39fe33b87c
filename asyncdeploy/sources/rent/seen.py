"""Our machines as the providers' lists show them: find_rentals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import attrs

from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.giving_back import usable_ids
from asyncdeploy.sources.rent.ledger import Entry
from asyncdeploy.sources.rent.names import RentedName, as_owner, read_name
from asyncdeploy.sources.rent.offers import by_name
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.sources.rent.want import Instance
from asyncdeploy.values.arguments import checked


@attrs.frozen
class FoundRental:
    """A rental as the providers know it.

    Attributes:
        id / owner / until: as its machines' names say.
        instances: "provider name (id)" of each machine.
        usd_per_hour: of all of them, as far as the providers say.
    """

    id: str
    owner: str
    until: int
    instances: tuple[str, ...]
    usd_per_hour: float


@attrs.frozen
class Ours:
    """One machine of ours in a list."""

    name: RentedName
    entry: Entry
    instance: Instance


@checked
async def find_rentals(providers: Sequence[Provider], *, owner: str | None = None) -> tuple[FoundRental, ...]:
    """Return what is rented now, as the providers' lists say, from any machine.

    Args:
        providers: where to look.
        owner: whose; None is the login name.

    Raises:
        ProviderError: a provider does not say what it has.

    On cancellation nothing is left anywhere.
    """
    ours, errors = await list_ours(by_name(providers), as_owner(owner))
    if errors:
        raise errors[0]
    rentals: dict[str, list[Ours]] = {}
    for one in ours:
        rentals.setdefault(one.name.rental, []).append(one)
    return tuple(_found(rental, several) for rental, several in sorted(rentals.items()))


def _found(rental: str, several: Sequence[Ours]) -> FoundRental:
    first = several[0].name
    named = tuple(f"{one.entry.provider} {one.name} ({', '.join(one.entry.ids) or 'id unknown'})" for one in several)
    usd = sum(one.instance.usd_per_hour or 0.0 for one in several)
    return FoundRental(rental, first.owner, max(one.name.until for one in several), named, usd)


async def list_ours(providers: Mapping[str, Provider], owner: str) -> tuple[list[Ours], list[ProviderError]]:
    """Return the machines of this owner, and the errors of those providers that do not say what they have."""
    answers = await asyncio.gather(*(_list(provider) for provider in providers.values()))
    ours, errors = [], []
    for provider, answer in zip(providers, answers, strict=True):
        if isinstance(answer, ProviderError):
            errors.append(answer)
            continue
        for instance in answer:
            name = read_name(instance.name)
            if name is not None and name.owner == owner and instance.state != "gone":
                ids = usable_ids(instance.id)
                entry = Entry(instance.name, provider, 0.0, ids)
                entry.see(instance)
                ours.append(Ours(name, entry, instance))
    return ours, errors


async def _list(provider: Provider) -> tuple[Instance, ...] | ProviderError:
    try:
        return await provider.instances()
    except ProviderError as error:
        return error
