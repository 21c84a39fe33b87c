"""Who would rent what is wanted, and in which order it is tried: find_offers, plans. Nothing is booked here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.sources.rent.want import Offer, Want
from asyncdeploy.values.arguments import checked

MAX_PLANS = 10
"""Plans that are tried: each may cost a boot of some minutes."""
ROUNDING = 1e-6
"""Three machines at $0.10 are $0.30, whatever 3 * 0.1 is to a computer."""


def by_name(providers: Sequence[Provider] | Provider) -> dict[str, Provider]:
    """Return providers by their names.

    Raises:
        ValueError: none, or two of one name.
    """
    several = list(providers) if isinstance(providers, Sequence) else [providers]
    if not several:
        raise ValueError("providers: at least one was expected, such as [RunPod()], got none")
    found = {provider.name: provider for provider in several}
    if len(found) != len(several):
        raise ValueError("providers: different ones were expected, got two of one name")
    return found


@checked
async def find_offers(providers: Sequence[Provider], want: Want) -> tuple[Offer, ...]:
    """Return what would do, the cheapest first; nothing is booked.

    Args:
        providers: who is asked.
        want: what is wanted. An offer is shown when so many machines at its price cost no more together than
            ``usd_per_hour``, and there are enough of them where they have to be: what ``rent`` would try.

    Raises:
        ProviderError: no provider answered; the first one's. One of several that does not answer is left out.
        ValueError: no providers.

    On cancellation nothing is left anywhere.
    """
    offers, errors = await ask_all(by_name(providers), want)
    if errors and len(errors) == len(by_name(providers)):
        raise errors[0]
    shown = [
        offer
        for group in _groups(offers, want)
        if _plans_of(group, want)
        for offer in group
        if _is_within(offer.usd_per_hour * want.nodes, want)
    ]
    return tuple(sorted(shown, key=_price))


async def ask_all(providers: Mapping[str, Provider], want: Want) -> tuple[tuple[Offer, ...], list[ProviderError]]:
    """Return all offers that fit, the cheapest first, and the errors of those who did not answer."""
    answers = await asyncio.gather(*(_ask(provider, want) for provider in providers.values()))
    offers = [offer for answer in answers if not isinstance(answer, ProviderError) for offer in answer]
    fitting = [offer for offer in offers if _fits(offer, want)]
    errors = [answer for answer in answers if isinstance(answer, ProviderError)]
    return tuple(sorted(fitting, key=_price)), errors


def _price(offer: Offer) -> tuple[float, str, str]:
    return offer.usd_per_hour, offer.provider, offer.id


async def _ask(provider: Provider, want: Want) -> tuple[Offer, ...] | ProviderError:
    try:
        return await provider.offers(want)
    except ProviderError as error:
        return error


def _fits(offer: Offer, want: Want) -> bool:
    is_wanted = offer.gpus == want.gpus and want.takes_gpu(offer.gpu)
    return is_wanted and offer.usd_per_hour > 0 and _is_within(offer.usd_per_hour, want)


def _is_within(usd_per_hour: float, want: Want) -> bool:
    return usd_per_hour <= want.usd_per_hour + ROUNDING


def plans(offers: Sequence[Offer], want: Want) -> list[tuple[Offer, ...]]:
    """Return the ways to get all machines within the price, the cheapest first: an offer for each machine."""
    found: dict[tuple[Offer, ...], float] = {}
    for group in _groups(offers, want):
        found |= _plans_of(group, want)
    return sorted(found, key=lambda plan: found[plan])[:MAX_PLANS]


def _groups(offers: Sequence[Offer], want: Want) -> list[list[Offer]]:
    """Return offers by what one rental may take together, the cheapest first in each."""
    groups: dict[tuple[str, str], list[Offer]] = {}
    for offer in offers:
        if want.is_joined:
            if offer.place:
                groups.setdefault((offer.provider, offer.place), []).append(offer)
        else:
            groups.setdefault(("", ""), []).append(offer)
    return list(groups.values())


def _plans_of(group: Sequence[Offer], want: Want) -> dict[tuple[Offer, ...], float]:
    """Return the ways to take all machines from a group, with what they cost."""
    found: dict[tuple[Offer, ...], float] = {}
    for first in range(len(group)):
        row = [offer for offer in group[first:] for _ in range(min(offer.count, want.nodes))]
        plan = tuple(row[: want.nodes])
        cost = sum(offer.usd_per_hour for offer in plan)
        if len(plan) == want.nodes and _is_within(cost, want):
            found.setdefault(plan, cost)
    return found
