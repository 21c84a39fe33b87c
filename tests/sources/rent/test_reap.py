"""reap_rentals with some of the providers: each ledger for itself, and what still costs money is said first."""

import asyncio
import time

import pytest

from asyncdeploy.sources.rent.errors import NotGivenBack
from asyncdeploy.sources.rent.giving_back import Patience
from asyncdeploy.sources.rent.ledger import Ledger
from asyncdeploy.sources.rent.names import RentedName, new_rental_id
from asyncdeploy.sources.rent.rent import reap_rentals
from tests.support.rented.fake import FakeProvider
from tests.support.rented.renter import PATIENCE, provider_of


def died(*providers: str) -> list[str]:
    """The ledger of a process that died after it had asked each of them for a machine; returns the machines' names."""
    ledger = Ledger.make(new_rental_id())
    names = [str(RentedName("me", ledger.rental, n, int(time.time()) + 3600)) for n in range(len(providers))]
    for name, provider in zip(names, providers, strict=True):
        ledger.write("ask", {"name": name, "provider": provider, "offer": ""})
    ledger.close()
    return names


def tell_gone(name: str) -> None:
    ledger = Ledger.take(name.split("-")[2])
    assert ledger is not None
    ledger.write("gone", {"name": name})
    ledger.close()


async def test_a_provider_that_is_not_given_hides_nothing_and_is_not_waited_for() -> None:
    async with FakeProvider("vast") as fake, FakeProvider("runpod") as other:
        vast, runpod = provider_of("vast", fake.url, 0), provider_of("runpod", other.url, 0)
        [gone] = died("runpod")
        tell_gone(gone)
        [left] = died("vast")
        fake.machines.make(left, 1.0)
        fake.faults["end refused"] = 10**6
        with pytest.raises(NotGivenBack, match=left) as caught:
            await reap_rentals([vast], owner="me", patience=Patience(poll_s=0.05, settle_s=0.3, end_s=0.3))
        assert gone not in str(caught.value)
        fake.faults.clear()
        assert await reap_rentals([vast], owner="me", patience=PATIENCE) == (left,)
        assert await reap_rentals([vast], owner="me", patience=PATIENCE) == (), "what was gone before is no news"
        mixed = died("runpod", "vast")
        for name, each in zip(mixed, (other, fake), strict=True):
            each.machines.make(name, 1.0)
        async with asyncio.timeout(60):  # not for ten minutes
            with pytest.raises(NotGivenBack, match=f"runpod {mixed[0]}") as caught:
                await reap_rentals([vast], owner="me", patience=Patience(poll_s=0.05, settle_s=0.3))
        assert "runpod: this provider was not given" in caught.value.evidence
        assert mixed[1] not in str(caught.value)
        assert fake.machines.living() == []
        assert len(Ledger.known()) == 2, "of the two in which RunPod stands"
        await reap_rentals([runpod], owner="me", patience=PATIENCE)
        assert other.machines.living() == []
        assert len(Ledger.known()) == 1, "in it Vast stands too, and may have a key to take away"
        await reap_rentals([vast, runpod], owner="me", patience=PATIENCE)
        assert Ledger.known() == ()
        assert fake.crimes == other.crimes == []
