"""Machines for a while: rent, start_rental, end_rental, find_rentals, reap_rentals."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from asyncdeploy.nodes.names import shown
from asyncdeploy.sources.rent.booking import Booking, settle
from asyncdeploy.sources.rent.giving_back import Patience, give_back
from asyncdeploy.sources.rent.ledger import Entry, Ledger, opened
from asyncdeploy.sources.rent.names import as_owner, as_rental_id, new_rental_id
from asyncdeploy.sources.rent.offers import by_name
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.sources.rent.rental import Rental
from asyncdeploy.sources.rent.seen import list_ours
from asyncdeploy.sources.rent.want import Want
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.arguments import check_argument, checked

MAX_S = 30 * 24 * 3600
"""A longer rental is a slip of the finger, or a purchase."""


@asynccontextmanager
async def rent(
    providers: Sequence[Provider],
    want: Want,
    *,
    for_s: float,
    boot_s: float = 900,
    owner: str | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[Rental]:
    """Rent machines for the length of a block, and give them back after it, whatever happens in it.

    Args:
        providers: who is asked; the cheapest offer of all is tried first, then the next.
        want: what is wanted, and the most that it may cost.
        for_s: after so many seconds anybody's ``reap_rentals`` may end them; at most 30 days.
        boot_s: seconds that one offer has until our sshd answers on each machine; images of some GB take minutes.
        owner: whose they are, a part of their names; None is the login name.
        patience: how long providers are waited for.

    Returns:
        A context with a Rental: nodes, host_keys, usd_per_hour, until.

    Raises:
        RentFailed: no offer became nodes; what was rented meanwhile was given back.
        NotGivenBack: after the block: what could not be proven gone, where to look, what it costs. Where the block
            itself raises, this is a note on its error.
        ProviderError: no provider takes our key, or there is none.
        OSError: the ledger cannot be written; nothing is rented without it.
        ValueError: a number does not fit, or no providers.

    On cancellation what runs is ended within 5 s; what could not be proven gone by then is a note on the error, stands
    in the ledger, and is ended by the next ``reap_rentals``. The same holds after our own death.
    """
    booking = await _begin(providers, want, (for_s, boot_s), owner, patience)
    rental = await booking.make()
    try:
        yield rental
    except BaseException as error:
        await booking.end(error)
        raise
    await booking.end(None)


@checked
async def start_rental(
    providers: Sequence[Provider],
    want: Want,
    *,
    for_s: float,
    boot_s: float = 900,
    owner: str | None = None,
    patience: Patience | None = None,
) -> Rental:
    """Rent machines that stay until ``end_rental``, or until somebody reaps them after ``for_s``.

    Args:
        providers: who is asked, as for ``rent``.
        want: what is wanted, and the most that it may cost.
        for_s: after so many seconds anybody's ``reap_rentals`` may end them; at most 30 days.
        boot_s: seconds that one offer has until our sshd answers on each machine.
        owner: whose they are; None is the login name.
        patience: how long providers are waited for.

    Raises:
        RentFailed, NotGivenBack, ProviderError, OSError, ValueError: as for ``rent``.

    Returns:
        The Rental; its key lies on this machine (``nodes[0].key_path``).

    On cancellation as for ``rent``: before it has returned, nothing stays.
    """
    booking = await _begin(providers, want, (for_s, boot_s), owner, patience)
    rental = await booking.make()
    try:
        await run_in_thread(_keep, booking.ledger)
    except BaseException as error:
        await booking.end(error)
        raise
    booking.ledger.close()
    return rental


def _keep(ledger: Ledger) -> None:
    ledger.write("kept")


async def _begin(
    providers: Sequence[Provider],
    want: Want,
    seconds: tuple[float, float],
    owner: str | None,
    patience: Patience | None,
) -> Booking:
    check_argument("rent providers", providers, Sequence[Provider])
    check_argument("rent want", want, Want)
    check_argument("rent owner", owner, str | None)
    check_argument("rent patience", patience, Patience | None)
    for what, value in zip(("for_s", "boot_s"), seconds, strict=True):
        check_argument(f"rent {what}", value, float)
        if not 1 <= value <= MAX_S:
            raise ValueError(f"rent {what}: seconds from 1 to {MAX_S} (30 days) were expected, got {shown(value)}")
    known, whose, until = by_name(providers), as_owner(owner), math.ceil(time.time() + seconds[0])
    [ledger] = await opened(lambda found: found.append(Ledger.make(new_rental_id())))
    return Booking(known, want, whose, until, seconds[1], patience or Patience(), ledger)


@checked
async def end_rental(
    providers: Sequence[Provider],
    rental: Rental | str,
    *,
    owner: str | None = None,
    patience: Patience | None = None,
) -> tuple[str, ...]:
    """End a rental's machines, from any machine: they are found by their names.

    Args:
        providers: where to look; all that the rental may have machines of.
        rental: the Rental, or its id.
        owner: whose it is; None is the login name.
        patience: how long providers are waited for.

    Returns:
        The names of the machines that are proven gone.

    Raises:
        NotGivenBack: what could not be proven gone.
        ProviderError: a provider does not say what it has.
        ValueError: that is no rental's id.

    On cancellation what was not ended yet runs on.
    """
    known, whose = by_name(providers), as_owner(owner)
    wanted = as_rental_id(rental.id if isinstance(rental, Rental) else rental)
    taken = await opened(lambda found: found.extend(_taken(wanted)))
    try:
        ours, errors = await list_ours(known, whose)
        if errors:
            raise errors[0]
        entries = _joined((one.entry for one in ours if one.name.rental == wanted), taken)
        left = await give_back(known, list(entries.values()), patience or Patience(), taken)
        if left is not None:
            raise left
        for ledger in taken:
            await settle(known, ledger)
        return tuple(entries)
    finally:
        for ledger in taken:
            ledger.close()


@checked
async def reap_rentals(
    providers: Sequence[Provider], *, owner: str | None = None, patience: Patience | None = None
) -> tuple[str, ...]:
    """End what nobody wants any more: machines whose time is over, by their names alone, and those of dead processes.

    Works from any machine; only the ledgers of this one tell of processes that died here before their time was over.
    What a living process rented is left alone until its time is over; what another owner rented, for good.

    Args:
        providers: where to look.
        owner: whose; None is the login name.
        patience: how long providers are waited for.

    Returns:
        The names of the machines that are proven gone.

    Raises:
        NotGivenBack: what could not be proven gone.
        ProviderError: a provider does not say what it has; what the others have was reaped before this is raised.

    On cancellation what was not ended yet is left for the next one.
    """
    known, whose = by_name(providers), as_owner(owner)
    ours, errors = await list_ours(known, whose)
    ledgers = await opened(_take_dead)
    failed: list[Exception] = [*errors]
    try:
        dead = {ledger.rental for ledger in ledgers}
        entries = _joined(
            (one.entry for one in ours if one.name.until <= time.time() or one.name.rental in dead), ledgers
        )
        entries = {name: entry for name, entry in entries.items() if not entry.gone}
        left = await give_back(known, list(entries.values()), patience or Patience(), ledgers)
        for ledger in ledgers:
            if all(entry.gone for entry in ledger.entries.values()):
                try:
                    await settle(known, ledger)
                except Exception as error:  # noqa: BLE001 - of one rental; what costs money is said first
                    failed.append(error)
    finally:
        for ledger in ledgers:
            ledger.close()
    for problem in (left, *failed):
        if problem is not None:
            raise problem
    return tuple(entries)


def _joined(ours: Iterable[Entry], ledgers: Iterable[Ledger]) -> dict[str, Entry]:
    """Return what ledgers name and what lists show, one of each name."""
    entries = {name: entry for ledger in ledgers for name, entry in ledger.entries.items()}
    for entry in ours:
        known = entries.setdefault(entry.name, entry)
        known.shown |= entry.shown
        known.gone = False  # whatever the ledger says
    return entries


def _taken(rental: str) -> list[Ledger]:
    ledger = Ledger.take(rental)
    return [] if ledger is None else [ledger]


def _take_dead(found: list[Ledger]) -> None:
    """Lock the ledgers of processes that died, and of rentals whose time is over."""
    for rental in Ledger.known():
        for ledger in _taken(rental):
            if ledger.is_over(time.time()):
                found.append(ledger)
            else:
                ledger.close()
