"""What could be rented, what is rented, and renting itself: the price of all machines together comes first and last."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.providers import providers_of
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.work.giving_back import cost_of, machines, patience_of, telling
from asyncdeploy.cli.work.looking import in_columns
from asyncdeploy.values.shown.moments import clock

ANY_PRICE = 1e6
"""An hour: offers are looked at without a limit, too."""
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A Ctrl-C, somebody's kill, a terminal that closes: the machines are given back."""


async def show_offers(desk: Desk, gpu: str, asked: Any, renting: Any) -> int:
    """Show who would rent what is wanted."""
    providers = providers_of(desk.out.verb, renting.provider)
    want, for_s = want_of(gpu, asked), seconds(asked.for_, "--for") if asked.for_ else 0.0
    found = await ad.find_offers(providers, want)
    heads = ("PROVIDER", "GPUS", "WHERE", "EACH/H", "TOGETHER/H", *(["UNTIL THE END"] if for_s else []))
    rows = [heads]
    for offer in found:
        together = offer.usd_per_hour * want.nodes
        prices = [offer.usd_per_hour, together, *([together * for_s / 3600] if for_s else [])]
        gpus = f"{offer.gpus} x {offer.gpu}"
        rows.append((offer.provider, gpus, offer.place or "-", *(f"${price:.2f}" for price in prices)))
    said = [{**each.to_dict(), "usd_per_hour_together": each.usd_per_hour * want.nodes} for each in found]
    desk.out.result(in_columns(rows) if found else "nobody offers that now")
    if not found and want.is_joined:
        desk.out.say("of providers that say which machines share a private network; --apart asks all of them")
    desk.out.document({"ok": True, "exit": 0, "nodes": want.nodes, "offers": said})
    return 0


async def show_rentals(desk: Desk, renting: Any) -> int:
    """Show what is rented, as the providers say."""
    providers = providers_of(desk.out.verb, renting.provider)
    found = await ad.find_rentals(providers, owner=renting.owner)
    lines = []
    for rental in found:
        left_h = max(0.0, rental.until - time.time()) / 3600
        when = f"${rental.usd_per_hour * left_h:.2f} until {clock(rental.until)}"
        lines.append(f"{cost_of(rental)}, {when if left_h else f'OVER since {clock(rental.until)}'}")
        lines += [f"  {instance}" for instance in rental.instances]
    total = sum(rental.usd_per_hour for rental in found)
    desk.out.result("\n".join(lines) if found else "nothing is rented")
    if found:
        desk.out.say(
            f"${total:.2f} an hour for all; asyncdeploy give-back RENTAL ends one, asyncdeploy reap what is over"
        )
    document = {"rentals": [attrs.asdict(rental) for rental in found], "usd_per_hour": total}
    desk.out.document({"ok": True, "exit": 0, **document})
    return 0


async def rent(desk: Desk, gpu: str, asked: Any, renting: Any, how: tuple[str, bool]) -> int:
    """Rent, and give back when somebody ends it or the time is over; detached, leave that to others."""
    boot, detach = how
    providers = providers_of(desk.out.verb, renting.provider)
    if asked.usd_per_hour is None or not asked.for_:
        raise UsageError("rent: the most that it may cost and how long were expected: --usd-per-hour 3.50 --for 8h")
    want, for_s = want_of(gpu, asked), seconds(asked.for_, "--for")
    most = f"${want.usd_per_hour:.2f} an hour together, ${want.usd_per_hour * for_s / 3600:.2f} for {asked.for_}"
    words: dict[str, Any] = {"for_s": for_s, "boot_s": seconds(boot, "--boot"), "owner": renting.owner}
    words["patience"] = patience_of(renting)
    desk.out.say(f"{want.nodes} x {want.gpus} {want.gpu}: at most {most}; this takes minutes, Ctrl-C takes it back")
    began = time.time()
    with telling(desk):
        if detach:
            rental = await ad.start_rental(providers, want, **words)
            ending = (
                f"it costs until `asyncdeploy give-back {rental.id}`, or a reap after its time: nothing else ends it"
            )
            _tell_rented(desk, rental, ending)
            desk.out.document({"ok": True, "exit": 0, "rental": rental})
            return 0
        async with ad.rent(providers, want, **words) as rental:
            with _heard() as ended:
                _tell_rented(desk, rental, "Ctrl-C gives it back")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), max(0.0, rental.until - time.time()))
            desk.out.say(f"giving back rental {rental.id}; another Ctrl-C names what is left")
    cost = rental.usd_per_hour * (time.time() - began) / 3600
    desk.out.say(f"rental {rental.id} is given back: {machines(len(rental.nodes))}, about ${cost:.2f} in all")
    desk.out.document({"ok": True, "exit": 0, "rental": rental, "usd": round(cost, 2)})
    return 0


def want_of(gpu: str, asked: Any) -> ad.Want:
    """Return what is wanted, by the flags; without a word of the price any."""
    return ad.Want(
        gpu,
        gpus=asked.gpus,
        nodes=asked.num_nodes,
        usd_per_hour=ANY_PRICE if asked.usd_per_hour is None else asked.usd_per_hour,
        disk_gb=asked.disk_gb,
        image=asked.image,
        regions=asked.region,
        together=not asked.apart,
    )


def _tell_rented(desk: Desk, rental: ad.Rental, ending: str) -> None:
    """Say what it costs now that it is there, what ends it, and how to get there; the last may find no reader."""
    desk.out.say(f"{rental.describe()}\n{ending}")
    for note in rental.notes:
        desk.out.say(f"note: {note}")
    for node, pin in rental.pins:
        desk.out.say(f"host key of {node}: {pin}")
    desk.out.say("next: asyncdeploy check, push, launch, ... with this word, from this machine; its keys are known:")
    desk.out.event("Rented", {"rental": rental})
    desk.out.result(f"-n @{rental.id}")


@contextlib.contextmanager
def _heard() -> Iterator[asyncio.Event]:
    """Give what is set by a signal that ends us; what is ignored (nohup, a shell's "&") stays so."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    before = {each: signal.getsignal(each) for each in ENDINGS}
    before = {each: handler for each, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for each in before:
        loop.add_signal_handler(each, ended.set)
    try:
        yield ended
    finally:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
