"""The one property: whatever goes wrong and wherever we die, after a reap nothing of ours is left, or each is named.

Each seed draws a dialect, faults, and an end: by itself, by the caller's error, by a cancellation at any moment, by
KILL at any line of the ledger. ASYNCDEPLOY_RENTALS says how many seeds are tried; ASYNCDEPLOY_SEED plays one again;
with ASYNCDEPLOY_DEATHS each write is tried in each dialect, else one of three, the dialects in turn.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time

import pytest

from asyncdeploy.sources.rent.errors import NotGivenBack, ProviderError, RentFailed
from asyncdeploy.sources.rent.giving_back import Patience
from asyncdeploy.sources.rent.ledger import rentals_folder
from asyncdeploy.sources.rent.rent import end_rental, reap_rentals, rent, start_rental
from asyncdeploy.sources.rent.seen import find_rentals
from tests.support import tools
from tests.support.places import ROOT
from tests.support.rented.fake import DIALECTS, FAULTS, FakeProvider
from tests.support.rented.renter import PATIENCE, WANT, provider_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the rented machines' sshd lets root in")

COUNT = int(os.environ.get("ASYNCDEPLOY_RENTALS") or 12)
ONE = os.environ.get("ASYNCDEPLOY_SEED")
SHORT = Patience(poll_s=0.05, settle_s=1.0, end_s=1.5)
WRITES = 34
"""There are more than of a rental that goes well where an offer is given back."""
WELL = {"KILL": 26, "ENOSPC": 22}
"""Writes of a rental that goes well; to take a file away needs no room."""


async def run_here(fake: FakeProvider, chance: random.Random) -> None:
    """Rent in this process; it ends by itself, by an error of ours, or by a cancellation."""
    end, keeps = chance.choice(["itself", "error", "cancel", "cancel", "cancel"]), chance.random() < 0.3

    async def work() -> None:
        provider = provider_of(fake.dialect, fake.url, fake.machines.port)
        if keeps:
            kept = await start_rental([provider], WANT, for_s=1, boot_s=2.0, owner="me", patience=SHORT)
            await find_rentals([provider], owner="me")
            await end_rental([provider], kept, owner="me", patience=SHORT)
            return
        async with rent([provider], WANT, for_s=3600, boot_s=2.0, owner="me", patience=SHORT):
            if end == "error":
                raise KeyError("the caller's own")
            await asyncio.sleep(chance.choice([0.0, 0.1, 1.0]))

    task = asyncio.create_task(work())
    if end == "cancel":
        await asyncio.sleep(chance.uniform(0.0, 2.5))
        task.cancel()
    with contextlib.suppress(RentFailed, NotGivenBack, ProviderError, KeyError, asyncio.CancelledError):
        await task
    over = time.time() + 2.1
    while keeps and time.time() < over:  # until then what was started is still wanted
        await asyncio.sleep(0.05)


async def run_and_die(fake: FakeProvider, at: int, how: str = "KILL") -> bool:
    """Rent in a process that dies by KILL at one of its writes, or whose disk is full from there on.

    Returns whether it came so far.
    """
    words = ["-m", "tests.support.rented.renter", fake.dialect, fake.url, str(fake.machines.port), str(at), how]
    child = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        said, _ = await child.communicate()
    print(f"{how} at write {at}: {'died' if child.returncode else f'came through with {said.decode().strip()}'}")
    return child.returncode == -signal.SIGKILL or int(said) >= at


async def reap_once(fake: FakeProvider) -> None:
    """Reap with what faults there are: what is left is named."""
    provider = provider_of(fake.dialect, fake.url, fake.machines.port)
    named = ""
    try:
        await reap_rentals([provider], owner="me", patience=SHORT)
    except NotGivenBack as error:
        named = str(error)
    except ProviderError:  # loudly; then what is left has not been looked at
        named = " ".join(one.name for one in fake.machines.living())
    for machine in fake.machines.living():
        assert machine.name in named, f"{machine.name} is left and nobody says so"


@pytest.mark.parametrize("_number", range(1 if ONE else COUNT))
async def test_nothing_of_ours_is_left_or_it_is_named_and_nobody_elses_is_touched(_number: int) -> None:
    tools.need("sshd")
    seed = int(ONE) if ONE else random.randrange(10**9)
    chance = random.Random(seed)
    async with FakeProvider(chance.choice(sorted(DIALECTS))) as fake:
        for fault in chance.choices(FAULTS, k=chance.randint(0, 4)):
            fake.faults[fault] += chance.choice([1, 1, 2, 5])
        fake.faults["gap"] = min(1, fake.faults["gap"])  # who never saw a machine believes a few such lists
        fake.lag_s = chance.choice([0.0, 0.0, 0.2, 0.6])
        print(f"ASYNCDEPLOY_SEED={seed}: {fake.dialect}, {dict(fake.faults)}, lag {fake.lag_s}")
        if chance.random() < 0.5:
            await run_here(fake, chance)
        else:
            await run_and_die(fake, chance.randint(1, WRITES))
        await reap_once(fake)
        fake.faults.clear()
        provider = provider_of(fake.dialect, fake.url, fake.machines.port)
        await reap_rentals([provider], owner="me", patience=PATIENCE)
        assert [one.name for one in fake.machines.living()] == []
        assert len(fake.machines.living(foreign=True)) == 3
        assert fake.crimes == []
        assert len(fake.creates) == len(set(fake.creates)), "a create was sent twice"
        assert fake.keys == {}
        assert [path.name for path in rentals_folder().glob("*")] == []


def where(how: str) -> list[tuple[str, int]]:
    """The dialects and the writes that are tried."""
    if os.environ.get("ASYNCDEPLOY_DEATHS"):
        return [(dialect, at) for dialect in DIALECTS for at in range(1, WELL[how] + 1)]
    return [(sorted(DIALECTS)[at % len(DIALECTS)], at) for at in (1, *range(3, WELL[how] + 1, 3))]


@pytest.mark.parametrize("dialect,at", where("KILL"))
async def test_death_at_a_write_leaves_nothing_that_a_reap_does_not_end(dialect: str, at: int) -> None:
    """Right before each line is written: what it announces must not have been done."""
    tools.need("sshd")
    async with FakeProvider(dialect) as fake:
        assert await run_and_die(fake, at)
        provider = provider_of(dialect, fake.url, fake.machines.port)
        await reap_rentals([provider], owner="me", patience=PATIENCE)
        nothing_is_left(fake)


@pytest.mark.parametrize("dialect,at", where("ENOSPC"))
async def test_a_disk_that_is_full_at_a_write_keeps_nothing_rented(dialect: str, at: int) -> None:
    tools.need("sshd")
    async with FakeProvider(dialect) as fake:
        assert await run_and_die(fake, at, "ENOSPC")
        assert fake.machines.living() == [], "given back without a reap"
        provider = provider_of(dialect, fake.url, fake.machines.port)
        await reap_rentals([provider], owner="me", patience=PATIENCE)
        nothing_is_left(fake)


def nothing_is_left(fake: FakeProvider) -> None:
    assert fake.machines.living() == []
    assert fake.crimes == []
    assert fake.keys == {}
    assert list(rentals_folder().iterdir()) == []
