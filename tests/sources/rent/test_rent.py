"""Renting by four dialects: nodes or nothing, and everything is given back or named."""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.run.attached import run_command
from asyncdeploy.sources.rent.errors import NotGivenBack, RentFailed
from asyncdeploy.sources.rent.giving_back import Patience
from asyncdeploy.sources.rent.kept import read_rentals
from asyncdeploy.sources.rent.ledger import rentals_folder
from asyncdeploy.sources.rent.names import read_name
from asyncdeploy.sources.rent.rent import end_rental, reap_rentals, rent, start_rental
from asyncdeploy.sources.rent.rental import Rental
from asyncdeploy.sources.rent.seen import find_rentals
from tests.support import tools
from tests.support.rented.fake import DIALECTS, FakeProvider
from tests.support.rented.renter import BOOT_S, PATIENCE, WANT, provider_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the rented machines' sshd lets root in")


def renting(fake: FakeProvider, *, patience: Patience = PATIENCE, boot_s: float = BOOT_S):  # type: ignore[no-untyped-def]
    tools.need("sshd")
    provider = provider_of(fake.dialect, fake.url, fake.machines.port)
    return rent([provider], WANT, for_s=3600, boot_s=boot_s, owner="me", patience=patience)


def nothing_is_left(fake: FakeProvider) -> None:
    assert [one.name for one in fake.machines.living()] == []
    assert fake.crimes == []
    assert len(fake.creates) == len(set(fake.creates)), "a create was repeated"
    assert fake.keys == {}
    assert list(rentals_folder().iterdir()) == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_nodes_that_answer_and_afterwards_nothing(dialect: str) -> None:
    async with FakeProvider(dialect) as fake:
        async with renting(fake) as rental:
            assert isinstance(rental, Rental)
            assert rental.usd_per_hour == pytest.approx(3.0)
            assert {node.slots for node in rental.nodes} == {2}
            assert 3590 < rental.until - time.time() <= 3601
            async with Pool(host_keys=rental.host_keys) as pool:
                for node in rental.nodes:
                    assert (await run_command(pool.at(node), "echo hi")).text == "hi"
            assert all(read_name(one.name) for one in fake.machines.living())
            assert bool(rental.notes) is (dialect == "prime")
            assert Rental.from_dict(rental.to_dict()) == rental
            assert len(await find_rentals([provider_of(dialect, fake.url, fake.machines.port)], owner="me")) == 1
        nothing_is_left(fake)


@pytest.mark.parametrize(
    "fault", ["lost create", "500 after create", "html", "late port", "429", "end refused", "end untrue", "500"]
)
@pytest.mark.parametrize("dialect", ["runpod", "vast"])
async def test_a_fault_that_can_be_lived_with(dialect: str, fault: str) -> None:
    async with FakeProvider(dialect) as fake:
        fake.faults[fault], fake.lag_s = 1, 0.2
        async with renting(fake) as rental:
            assert len(rental.nodes) == 2
        nothing_is_left(fake)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_machine_asked_for_too_early_is_asked_for_again(dialect: str) -> None:
    async with FakeProvider(dialect) as fake:
        fake.faults["429 to create"] = 2
        async with renting(fake) as rental:
            assert len(rental.nodes) == len(fake.creates) == 2, "by the first offer"
        fake.faults["429 to create"] = 10**6
        with pytest.raises(RentFailed, match="throttled"):
            async with renting(fake):
                raise AssertionError("there are no nodes")
        nothing_is_left(fake)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_list_that_misses_what_it_showed_leaks_nothing(dialect: str) -> None:
    async with FakeProvider(dialect) as fake:
        fake.faults["gap"] = fake.faults["late port"] = 1
        async with renting(fake) as rental:
            assert len(rental.nodes) == 2, "one such list ends no rental"
            fake.faults["gap"] = 1
        nothing_is_left(fake)
        fake.faults["gap"], fake.faults["late port"] = 3, 2
        with contextlib.suppress(RentFailed):  # of who has no other offer
            async with renting(fake):
                fake.faults["gap"] = 3
        nothing_is_left(fake)


async def test_what_somebody_gave_another_name_is_no_more_ours() -> None:
    async with FakeProvider("runpod") as fake:
        async with renting(fake):
            kept = fake.machines.living()[0]
            kept.name, kept.foreign = "mine", True
        nothing_is_left(fake)


@pytest.mark.parametrize("dialect", ["runpod", "lambda"])
async def test_together_is_kept_or_nothing_is_rented(dialect: str) -> None:
    async with FakeProvider(dialect) as fake:
        provider = provider_of(dialect, fake.url, fake.machines.port)

        def renting_together():  # type: ignore[no-untyped-def]
            want = attrs.evolve(WANT, together=True)
            return rent([provider], want, for_s=3600, boot_s=2.0, owner="me", patience=PATIENCE)

        fake.faults["alone"] = 1  # the address comes later than the rest
        async with renting_together() as rental:
            assert all(node.address for node in rental.nodes)
        nothing_is_left(fake)
        fake.faults["alone"] = 10**6
        with pytest.raises(RentFailed) as caught:
            async with renting_together():
                raise AssertionError("they share no network")
        assert "has no address in a private network, which together=True asks for" in caught.value.attempts[0]
        nothing_is_left(fake)
        async with renting(fake) as rental:  # together=False
            assert len(rental.nodes) == 2
        nothing_is_left(fake)


@pytest.mark.parametrize("dialect", ["vast", "prime"])
async def test_who_cannot_promise_a_network_is_not_asked_for_machines(dialect: str) -> None:
    async with FakeProvider(dialect) as fake:
        provider = provider_of(dialect, fake.url, fake.machines.port)
        with pytest.raises(RentFailed) as caught:
            async with rent([provider], attrs.evolve(WANT, together=True), for_s=3600, owner="me", patience=PATIENCE):
                raise AssertionError("they share no network")
        assert f"{dialect}: does not say which of its machines share a private network" in caught.value.attempts
        assert "together=False" in caught.value.hint
        assert fake.creates == []
        nothing_is_left(fake)


@pytest.mark.parametrize(
    "fault,word",
    [
        ("phantom", "never came"),
        ("dearer", "dearer than offered"),
        ("no capacity", "no capacity"),
        ("no key", "refused"),
        ("other host key", "host key"),
    ],
)
async def test_a_bad_offer_is_given_back_and_the_next_is_tried(fault: str, word: str) -> None:
    async with FakeProvider("lambda") as fake:
        fake.faults[fault] = 9
        with pytest.raises(RentFailed) as caught:
            async with renting(fake, boot_s=2.0):
                raise AssertionError("there are no nodes")
        assert len(caught.value.attempts) == 2
        assert word in caught.value.attempts[0]
        nothing_is_left(fake)
        fake.faults.clear()
        fake.faults[fault] = 1
        async with renting(fake, boot_s=2.0) as rental:
            assert len(rental.nodes) == 2
        nothing_is_left(fake)


async def test_what_cannot_be_given_back_is_named_and_never_hides_the_users_error() -> None:
    async with FakeProvider("runpod") as fake:
        short = Patience(poll_s=0.05, settle_s=0.5, end_s=0.5)
        with pytest.raises(NotGivenBack) as caught:
            async with renting(fake, patience=short):
                fake.faults["end refused"] = 10**6
        names = [one.name for one in fake.machines.living()]
        assert len(names) == 2
        assert all(name in str(caught.value) for name in names)
        assert caught.value.usd_per_hour == pytest.approx(3.0)
        with pytest.raises(KeyError) as own:
            async with renting(fake, patience=short):
                raise KeyError("mine")
        assert "NOT GIVEN BACK" in "\n".join(own.value.__notes__)
        fake.faults.clear()
        reaped = await reap_rentals([provider_of("runpod", fake.url, 0)], owner="me", patience=PATIENCE)
        assert set(names) <= set(reaped)
        nothing_is_left(fake)


async def test_a_cancellation_is_back_soon_and_reap_does_the_rest() -> None:
    async with FakeProvider("vast") as fake:

        async def work() -> None:
            async with renting(fake):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        while len(fake.machines.living()) < 2:
            await asyncio.sleep(0.01)
        fake.faults["end refused"] = 10**6
        task.cancel()
        start = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - start < 8.0  # the law's 5 s, and what a busy machine takes
        fake.faults.clear()
        await reap_rentals([provider_of("vast", fake.url, 0)], owner="me", patience=PATIENCE)
        nothing_is_left(fake)


async def test_a_started_rental_stays_until_it_is_ended_from_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeProvider("runpod") as fake:
        provider = provider_of("runpod", fake.url, 0)
        rental = await start_rental([provider], WANT, for_s=3600, boot_s=BOOT_S, owner="me", patience=PATIENCE)
        for name, text in (
            ("b", "{}"),
            ("c", ""),
            ("d", "[" * 9999),
            ("e", json.dumps({**rental.to_dict(), "pins": [["a", "b"]]})),
        ):
            (rentals_folder() / f"{name}.rental").write_text(text)
            (rentals_folder() / f"{name}.ledger").touch()
        assert read_rentals() == (rental,)
        for junk in "bcde":
            (rentals_folder() / f"{junk}.rental").unlink()
            (rentals_folder() / f"{junk}.ledger").unlink()
        assert await reap_rentals([provider], owner="me", patience=PATIENCE) == ()
        assert len(fake.machines.living()) == 2
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        assert len(await end_rental([provider], rental.id, owner="me", patience=PATIENCE)) == 2
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        await end_rental([provider], rental, owner="me", patience=PATIENCE)  # takes the ledger away
        nothing_is_left(fake)


async def test_reap_knows_by_the_names_alone_whose_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeProvider("runpod") as fake:
        provider = provider_of("runpod", fake.url, 0)
        await start_rental([provider], WANT, for_s=1, boot_s=BOOT_S, owner="me", patience=PATIENCE)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        while not await reap_rentals([provider], owner="me", patience=PATIENCE):
            await asyncio.sleep(0.05)
        assert fake.machines.living() == []
        assert fake.crimes == []


async def test_without_a_ledger_nothing_is_rented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    async with FakeProvider("runpod") as fake:
        with pytest.raises(OSError, match="file"):
            async with renting(fake):
                pass
        assert fake.creates == []
