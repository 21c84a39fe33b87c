"""Rented machines are ended, and what could not be is said last, in words that nobody overlooks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.exits import CTRL_C, FAILED
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.providers import providers_of
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.sources.slurm.ledger import any_noted

LEFT = "NOT GIVEN BACK"
"""How the library begins to say so."""
AGAIN = "asyncdeploy reap tries again what is over; asyncdeploy give-back RENTAL ends one at once"


async def give_back(desk: Desk, rental: str, renting: Any) -> int:
    """End a rental; 0 when nothing of it is left."""
    providers = providers_of(desk.out.verb, renting.provider)
    with contextlib.suppress(ad.ProviderError):  # what it costs is said where it can be; ending it does not wait
        for found in await ad.find_rentals(providers, owner=renting.owner):
            if found.id == rental:
                desk.out.say(f"{cost_of(found)}: giving it back")
    with telling(desk, f"rental {rental} may run on"):
        gone = await ad.end_rental(providers, rental, owner=renting.owner, patience=patience_of(renting))
    if not gone:
        where = ", ".join(provider.name for provider in providers)
        return desk.out.error(
            ad.DeployError(
                "",
                f"no rental {rental} at {where}: nothing was ended",
                "asyncdeploy rentals shows what there is; --owner and --provider say whose and where",
            ),
            FAILED,
        )
    return tell_gone(desk, gone)


async def reap(desk: Desk, renting: Any) -> int:
    """End what nobody wants, machines and Slurm jobs; 0 when nothing of that is left."""
    patience, providers = patience_of(renting), _asked_for_reap(desk, renting)
    jobs: tuple[str, ...] = ()
    failed: ad.DeployError | None = None
    try:
        jobs = await ad.reap_allocations(pool=desk.pool)
    except ad.DeployError as error:  # machines cost more: what keeps a job does not keep them
        failed = error
    for name in jobs:
        desk.out.result(f"Slurm job {name} is gone")
    gone: tuple[str, ...] = ()
    if providers:
        try:
            with telling(desk, "what is over may run on"):
                gone = await ad.reap_rentals(providers, owner=renting.owner, patience=patience)
        except ad.DeployError as error:
            if failed is not None:
                error.add_note(f"and of Slurm's jobs: {failed.describe()}")
            raise
    if failed is not None:
        for name in gone:
            desk.out.result(f"{name} is gone")
        raise failed
    return tell_gone(desk, gone, jobs)


def _asked_for_reap(desk: Desk, renting: Any) -> list[ad.Provider]:
    """Return whom to ask for machines; nobody where there is no key of any, and Slurm jobs to be looked at."""
    try:
        return providers_of(desk.out.verb, renting.provider)
    except (UsageError, ad.ToolMissing):
        if renting.provider or not any_noted():
            raise
        return []


def tell_gone(desk: Desk, gone: tuple[str, ...], jobs: tuple[str, ...] = ()) -> int:
    """Say which machines are proven gone; of Slurm jobs each was named."""
    for name in gone:
        desk.out.result(f"{name} is gone")
    if gone or not jobs:
        desk.out.say(f"{machines(len(gone))} given back, they cost no more" if gone else "nothing is over")
    desk.out.document({"ok": True, "exit": 0, "gone": gone, **({"jobs": jobs} if jobs else {})})
    return 0


@contextlib.contextmanager
def telling(desk: Desk, left_alone: str = "") -> Iterator[None]:
    """Where a Ctrl-C, or an error that is none of the library's, ends the work, say what it leaves behind.

    Args:
        desk: where.
        left_alone: what a Ctrl-C leaves as it is; "" where the library gives it back by itself.

    Raises:
        NotGivenBack: instead of an error that has a note of it, which nobody would be shown.
    """
    try:
        yield
    except ad.DeployError as error:
        if LEFT in error.describe():  # what it says of that is shown with it, and this below
            error.add_note(AGAIN)
        raise
    except BaseException as error:
        words = [note for note in getattr(error, "__notes__", ()) if note.startswith(LEFT)]
        if not isinstance(error, asyncio.CancelledError):
            if words:
                raise ad.NotGivenBack("", f"{type(error).__name__}: {error}\n{words[0]}", AGAIN) from error
            raise
        words += [f"{left_alone}, and costs money: asyncdeploy rentals shows it"] if left_alone else []
        if words:
            desk.out.error(ad.NotGivenBack("", words[0], AGAIN), CTRL_C)
        raise


def patience_of(renting: Any) -> ad.Patience:
    """Return how long it is tried."""
    return ad.Patience(end_s=seconds(renting.give_up, "--give-up"))


def cost_of(found: ad.FoundRental) -> str:
    """Return a rental's price for people."""
    return f"rental {found.id}: {machines(len(found.instances))}, ${found.usd_per_hour:.2f} an hour together"


def machines(count: int) -> str:
    """Return so many of them."""
    return f"{count} machine{'' if count == 1 else 's'}"
