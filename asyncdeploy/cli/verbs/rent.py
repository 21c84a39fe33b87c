"""Machines for a while, which cost money: offers, rent, rentals, give-back, reap."""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Group, Parameter

from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.settings.options import Show

_MACHINES = Group("Machines", sort_key=0)
_RENTING = Group("Renting", sort_key=1)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Machines:
    """What is wanted."""

    usd_per_hour: Annotated[
        float | None, Parameter(group=_MACHINES, help="the most, for ALL machines together; `rent` needs it")
    ] = None
    gpus: Annotated[int, Parameter(group=_MACHINES, help="GPUs in each machine")] = 1
    num_nodes: Annotated[int, Parameter(group=_MACHINES, help="machines")] = 1
    for_: Annotated[
        str, Parameter(name="--for", group=_MACHINES, help="how long: 90m, 8h, 2d; at most 30 days; `rent` needs it")
    ] = ""
    disk_gb: Annotated[int, Parameter(group=_MACHINES, help="room on each")] = 100
    image: Annotated[
        str | None, Parameter(group=_MACHINES, help="what each starts with; without, the provider's usual one")
    ] = None
    region: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", show_default=False, group=_MACHINES, help="where they may stand, in the provider's words"
        ),
    ] = ()
    apart: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, group=_MACHINES, help="several need no private network between them"
        ),
    ] = False


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Renting:
    """With whom, and in whose name."""

    provider: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            group=_RENTING,
            env_var="ASYNCDEPLOY_PROVIDER",
            help="runpod, vast, lambda, prime, or MODULE:NAME of your own; without, all whose key is set",
        ),
    ] = ()
    owner: Annotated[
        str | None,
        Parameter(group=_RENTING, env_var="ASYNCDEPLOY_OWNER", help="whose machines; without, the login name"),
    ] = None
    give_up: Annotated[
        str, Parameter(group=_RENTING, help="for so long it is tried to end machines, before they are named")
    ] = "10m"


def offers(gpu: str, /, *, machines: Machines = Machines(), renting: Renting = Renting(), show: Show = Show()) -> int:
    """Show who would rent such machines, the cheapest first, and what all together would cost. Nothing is booked.

    Parameters
    ----------
    gpu
        as the provider writes it or a part of it: "RTX 4090", H100
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.renting").show_offers(desk, gpu, machines, renting))

    return attend("offers", work, None, show, asks=True)


def rent(
    gpu: str,
    /,
    *,
    detach: Annotated[bool, Parameter(name=("--detach", "-d"), negative="", show_default=False)] = False,
    boot: str = "15m",
    machines: Machines = Machines(),
    renting: Renting = Renting(),
    show: Show = Show(),
) -> int:
    """Rent machines until Ctrl-C or until their time is over, and give them back then: all that was wanted, or nothing.

    What could not be given back is named last, with its price and where to end it by hand; the exit status is not 0.

    Parameters
    ----------
    gpu
        as the provider writes it or a part of it: "RTX 4090", H100
    detach
        return when they are there; they cost money until `give-back`
    boot
        for so long an offer is waited for until sshd answers on each machine
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.renting").rent(desk, gpu, machines, renting, (boot, detach)))

    return attend("rent", work, None, show)


def rentals(*, renting: Renting = Renting(), show: Show = Show()) -> int:
    """Show what is rented now, as the providers' lists say, from any machine, and what it costs."""

    async def work(desk: Desk) -> int:
        return int(await later("work.renting").show_rentals(desk, renting))

    return attend("rentals", work, None, show, asks=True)


def give_back(rental: str, /, *, renting: Renting = Renting(), show: Show = Show()) -> int:
    """End a rental's machines, from any machine; 0 when the providers no longer have them.

    Parameters
    ----------
    rental
        its id, as `rentals` shows it
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.giving_back").give_back(desk, rental, renting))

    return attend("give-back", work, None, show)


def reap(*, renting: Renting = Renting(), show: Show = Show()) -> int:
    """End what nobody wants any more: machines whose time is over, from any machine, and here also what a process that
    died had rented, and its Slurm jobs, for which no provider's key is needed. For cron or CI.
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.giving_back").reap(desk, renting))

    return attend("reap", work, None, show)
