"""What is offered, and what is refused before anybody is asked; nothing is booked here."""

from typing import Any

import pytest

from asyncdeploy.sources.rent.errors import ProviderError, RentFailed
from asyncdeploy.sources.rent.ledger import rentals_folder
from asyncdeploy.sources.rent.offers import find_offers
from asyncdeploy.sources.rent.providers.lambda_cloud import LambdaCloud
from asyncdeploy.sources.rent.providers.prime import PrimeIntellect
from asyncdeploy.sources.rent.providers.runpod import RunPod
from asyncdeploy.sources.rent.providers.vast import Vast
from asyncdeploy.sources.rent.rent import end_rental, rent
from asyncdeploy.sources.rent.want import Offer, Want
from tests.support.rented.fake import FakeProvider
from tests.support.rented.renter import WANT, provider_of


async def test_without_a_key_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    with pytest.raises(ProviderError) as caught:
        await find_offers([RunPod(base_url="http://127.0.0.1:1")], WANT)
    assert caught.value.reason == "auth"
    assert "RUNPOD_API_KEY" in caught.value.hint
    assert "canary" not in repr(RunPod(api_key="canary"))


async def test_who_has_no_key_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    here = "http://127.0.0.1:1"
    with pytest.raises(ProviderError) as caught:
        async with rent([RunPod(base_url=here), Vast(base_url=here)], WANT, for_s=60, owner="me"):
            pass
    assert "RUNPOD_API_KEY" in caught.value.hint
    assert "VAST_API_KEY" in "".join(caught.value.__notes__)
    with pytest.raises(RentFailed) as failed:
        async with rent([RunPod(base_url=here), Shop()], WANT, for_s=60, owner="me"):
            pass
    assert "RUNPOD_API_KEY" in failed.value.attempts[0]
    assert list(rentals_folder().iterdir()) == []


async def test_a_gpu_is_found_behind_all_the_cheaper_ones() -> None:
    async with FakeProvider("vast") as fake:
        vast = provider_of("vast", fake.url, 0)
        row = {"num_gpus": 1, "storage_cost": 0.0}
        names = [*(["RTX 3060"] * 1200), "H100 SXM", "H100 NVL"]
        for id_, name in enumerate(names, start=100):
            usd = (id_ // 2) / 1000  # two of each price
            fake.stock.append({**row, "id": id_, "gpu_name": name, "dph_base": usd, "dph_total": usd})

        async def ids(gpu: str, most: float = 2.0) -> list[str]:
            return [offer.id for offer in await vast.offers(Want(gpu, usd_per_hour=most))]

        assert await ids("H100") == ["1300", "1301"]
        assert await ids("H100_SXM") == await ids("H100 SXM") == ["1300"]
        assert await ids("H100", 0.6) == [], "dearer than it may be"
        assert len(await ids("RTX 3060")) >= 64, "enough for a rental"


class Shop:
    """Somebody's own provider, who only shows what there is."""

    name, console, plants_host_key = "shop", "shop.example", True

    def __init__(self, *offers: Offer) -> None:
        self._offers = offers

    async def offers(self, want: Want) -> tuple[Offer, ...]:
        return self._offers

    async def _nothing_else(self, *_: object) -> Any:
        raise AssertionError("nothing is booked")

    create = instances = end = tidy = _nothing_else


async def test_offers_are_those_that_rent_would_try() -> None:
    cheap, dear = Offer("shop", "1", "A", 1, 0.1, 1, "x"), Offer("shop", "2", "A", 1, 0.3, 9, "x")
    alone = Offer("shop", "3", "A", 1, 0.01, 9)
    shop = Shop(dear, cheap, alone)

    async def ids(**words: Any) -> str:
        return "".join(offer.id for offer in await find_offers([shop], Want("A", **words)))

    assert await ids(usd_per_hour=0.3) == "312"
    assert await ids(usd_per_hour=0.29) == "31"
    assert await ids(usd_per_hour=0.4, nodes=2) == "1", "with one of the dear ones; two of those cost more"
    assert await ids(usd_per_hour=0.39, nodes=2) == "", "the cheap one would do, but there is only one of it"
    assert await ids(usd_per_hour=0.6, nodes=2) == "12"
    assert await ids(usd_per_hour=0.03, nodes=3, together=False) == "3", "whatever 3 * 0.01 is to a computer"
    assert await ids(usd_per_hour=3 * 0.1 - 1e-9, nodes=3, together=False) == "31"


@pytest.mark.parametrize(
    "field",
    [
        *({"nodes": 0}, {"gpus": 0}, {"disk_gb": 0}, {"usd_per_hour": 0.0}),
        *({"gpu": " "}, {"gpu": "!!"}, {"gpu": "\N{EM DASH}"}, {"gpu": "_"}),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Want"):
        Want(**{"gpu": "A", "usd_per_hour": 1.0, **field})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="usd_per_hour"):
        Want("A", usd_per_hour=float("nan"))


async def test_other_values_that_make_no_sense_are_refused() -> None:
    for url in ("http://example.org", "ftp://127.0.0.1", "nonsense"):
        with pytest.raises(ValueError, match="base_url"):
            RunPod(base_url=url)
    with pytest.raises(ValueError, match="at least one"):
        await find_offers([], WANT)
    for nobody in (None, ["runpod"], "runpod", RunPod(api_key="k")):
        with pytest.raises(TypeError, match="rent providers"):
            async with rent(nobody, WANT, for_s=60):  # type: ignore[arg-type]
                pass
    for spacing_s in (-1, float("nan"), float("inf")):
        for kind in (RunPod, Vast, LambdaCloud, PrimeIntellect):
            with pytest.raises(ValueError, match="spacing_s"):
                kind(api_key="k", spacing_s=spacing_s)
    for id_ in ("Not An Id!", "", "../../x", "abcdefg1", "abcdefgh\n"):
        with pytest.raises(ValueError, match="rental: its id"):
            await end_rental([Shop()], id_, owner="me")
    for seconds in (0.5, 31 * 24 * 3600.0, float("nan")):
        with pytest.raises(ValueError, match="for_s"):
            async with rent([RunPod(api_key="k")], WANT, for_s=seconds):
                pass
