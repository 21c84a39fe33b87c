"""Until nothing of ours is left: the one loop by which machines are ended and proven gone.

A machine is ours by its name, which stands in the provider's list beside its id; an id alone is never believed. Gone is
what the list says, not what our own call returned. A list that misses a machine for a moment says nothing: what was
seen once is ended by the id that it had then, before two lists without it are believed; of what nobody ever heard (an
answer that was lost, an id to which nothing came) they are believed after ``settle_s``, within which a list may lag.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping, Sequence

import attrs

from asyncdeploy.sources.rent.errors import NotGivenBack, ProviderError
from asyncdeploy.sources.rent.ledger import Entry, Ledger
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.sources.rent.want import Instance
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.regex import regex

_ID = regex(r"[A-Za-z0-9_-]{1,128}")
"""It becomes a part of an address, where "" would mean all of them."""
LOOKS = 2
"""Lists in a row that do not show a machine, before that means anything: one may miss it for a moment."""
NOWHERE = (404, 410)
"""What HTTP says of a machine that is not there."""
LEAST_S = 1.0
"""For a look at a list, however little time is left."""


@checked_class
@attrs.frozen
class Patience:
    """How long providers are waited for.

    Args:
        poll_s: between two looks at a provider's list; they allow about one a second.
        settle_s: for so long after it was asked for, a machine may still appear that no list shows.
        end_s: for so long it is tried to end what is ours, before it is named.
    """

    poll_s: float = attrs.field(default=5.0, kw_only=True)
    settle_s: float = attrs.field(default=180.0, kw_only=True)
    end_s: float = attrs.field(default=600.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for field, value in (("poll_s", self.poll_s), ("settle_s", self.settle_s), ("end_s", self.end_s)):
            if not 0 < value < math.inf:
                raise ValueError(f"Patience {field}: a number of seconds above 0 was expected, got {value!r}")


async def give_back(
    providers: Mapping[str, Provider], entries: Sequence[Entry], patience: Patience, ledgers: Sequence[Ledger] = ()
) -> NotGivenBack | None:
    """End machines and wait until their providers no longer have them.

    Args:
        providers: by name; nobody waits for a machine of another one.
        entries: the machines; those that are proven gone are marked so.
        patience: how long it is tried.
        ledgers: where that is written down.

    Returns:
        What could not be proven gone; None if all is.

    On cancellation what was not proven by then is still not marked as gone.
    """
    end = time.monotonic() + patience.end_s
    why = {entry.provider: "this provider was not given" for entry in entries if entry.provider not in providers}
    while left := [entry for entry in entries if not entry.gone and entry.provider in providers]:
        names = dict.fromkeys(entry.provider for entry in left)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(LEAST_S, end - time.monotonic())):
                await asyncio.gather(*(_turn(providers[name], name, left, patience, why) for name in names))
        for name, ledger in ((entry.name, ledger) for entry in left if entry.gone for ledger in ledgers):
            if name in ledger.entries:
                with contextlib.suppress(OSError):  # on a full disk the next reap looks again, which costs nothing
                    await run_in_thread(_write_gone, ledger, name)
        if all(entry.gone for entry in left) or time.monotonic() >= end:
            break
        await asyncio.sleep(min(patience.poll_s, max(0.0, end - time.monotonic())))
    return not_given_back(providers, entries, why)


def _write_gone(ledger: Ledger, name: str) -> None:
    ledger.write("gone", {"name": name})


async def _turn(
    provider: Provider, name: str, entries: Sequence[Entry], patience: Patience, why: dict[str, str]
) -> None:
    """Look at one provider's list, and end what of ours stands in it; where it misses one, look again at once."""
    mine = [entry for entry in entries if entry.provider == name]
    while mine:
        why[name] = "it did not answer in time"
        try:
            listed = await provider.instances()
        except ProviderError as error:
            why[name] = str(error)
            return
        why[name] = "its list does not show it, and may a moment later"
        for entry in mine:
            there = [one for one in listed if one.name == entry.name and one.state != "gone"]
            for one in there:
                entry.see(one)
                entry.ids = list(dict.fromkeys([*entry.ids, *usable_ids(one.id)]))
                await _end(provider, one, why)
            if not there:
                entry.gone = await _is_gone(provider, entry, listed, patience, why)
        mine = [entry for entry in mine if not entry.gone and 0 < entry.absent < LOOKS]


async def _is_gone(
    provider: Provider, entry: Entry, listed: Sequence[Instance], patience: Patience, why: dict[str, str]
) -> bool:
    """Return whether a machine that does not run, as this list has it, is believed to be gone."""
    entry.absent += 1
    said = {one.id for one in listed}  # of another name: somebody made it his own
    unsaid = [one for id_, one in entry.shown.items() if id_ not in said]
    for one in unsaid:
        if usable_ids(one.id) and not await _end(provider, one, why):
            return False
    if not unsaid and (entry.shown or any(one.name == entry.name for one in listed)):
        return True
    return entry.absent >= LOOKS and (bool(unsaid) or time.time() - entry.asked_at > patience.settle_s)


def usable_ids(*said: str) -> list[str]:
    """Return those of a provider's ids that look like one."""
    return [id_ for id_ in said if _ID.fullmatch(id_)]


async def _end(provider: Provider, instance: Instance, why: dict[str, str]) -> bool:
    """Tell a provider to end a machine, and return whether it says that it does, or knows of none."""
    if not usable_ids(instance.id):
        why[provider.name] = "its list shows no usable id"
        return False
    try:
        await provider.end(instance)
    except ProviderError as error:
        why[provider.name] = str(error)
        return error.status in NOWHERE
    why[provider.name] = "it said that it ended it, and that is not proven by its list yet"
    return True


def not_given_back(
    providers: Mapping[str, Provider], entries: Sequence[Entry], why: Mapping[str, str]
) -> NotGivenBack | None:
    """Return the error that names what is not proven gone."""
    left = [entry for entry in entries if not entry.gone]
    if not left:
        return None
    usd = sum(entry.usd_per_hour or 0.0 for entry in left)
    named = tuple(f"{entry.provider} {entry.name} ({', '.join(entry.ids) or 'id unknown'})" for entry in left)
    price = f"${usd:.2f} an hour" if all(entry.usd_per_hour for entry in left) else f"${usd:.2f} an hour or more"
    reasons = "\n".join(f"{name}: {text}" for name, text in why.items() if any(each.provider == name for each in left))
    where = ", ".join(sorted({providers[each.provider].console for each in left if each.provider in providers}))
    return NotGivenBack(
        "",
        f"NOT GIVEN BACK, they may cost {price}: {'; '.join(named)}",
        hint=f"end them by hand{f' at {where}' if where else ''}, or let reap_rentals try again",
        evidence=reasons,
        instances=named,
        usd_per_hour=usd,
    )
