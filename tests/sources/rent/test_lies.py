"""What a provider may say, or who stands between: too much, too late, nonsense. Nothing is left all the same."""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from asyncdeploy.sources.rent.errors import NotGivenBack, ProviderError, RentFailed
from asyncdeploy.sources.rent.giving_back import Patience
from asyncdeploy.sources.rent.ledger import MAX_BYTES, rentals_folder
from asyncdeploy.sources.rent.offers import find_offers
from asyncdeploy.sources.rent.rent import reap_rentals, rent
from asyncdeploy.sources.rent.seen import find_rentals
from tests.support import tools
from tests.support.rented.fake import DIALECTS, FakeProvider
from tests.support.rented.renter import PATIENCE, WANT, provider_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the rented machines' sshd lets root in")

ESCAPES = "\x1b]0;owned\x07\u202e\n\u0430d-me"


def renting(fake: FakeProvider, *, patience: Patience = PATIENCE, boot_s: float = 6.0):  # type: ignore[no-untyped-def]
    tools.need("sshd")
    provider = provider_of(fake.dialect, fake.url, fake.machines.port)
    return rent([provider], WANT, for_s=3600, boot_s=boot_s, owner="me", patience=patience)


def nothing_is_left(fake: FakeProvider) -> None:
    assert fake.machines.living() == []
    assert fake.crimes == []
    assert list(rentals_folder().iterdir()) == []


def with_fields(**fields: Any) -> Callable[[Any], Any]:
    """Put other values into every object that has such a field."""

    def twist(said: Any) -> Any:
        if isinstance(said, list):
            return [twist(each) for each in said]
        if isinstance(said, dict):
            return {key: fields[key] if key in fields else twist(value) for key, value in said.items()}
        return said

    return twist


@pytest.mark.parametrize("id_", ["x" * (2 << 20), "../../all", ESCAPES, {"a": [1] * 1000}, 10**200, ""])
async def test_an_id_that_is_none_fills_no_ledger_and_names_no_address(id_: object) -> None:
    async with FakeProvider("vast") as fake:
        fake.twist = with_fields(new_contract=id_)
        async with renting(fake):
            assert all(path.stat().st_size < MAX_BYTES / 10 for path in rentals_folder().iterdir())
        nothing_is_left(fake)


@pytest.mark.parametrize("usd", [1e6, 1e300, float("inf"), 10**300])
async def test_a_price_that_nobody_pays_is_no_word_of_nothing(usd: float) -> None:
    async with FakeProvider("vast") as fake:
        fake.twist = with_fields(dph_total=usd)
        with pytest.raises(RentFailed, match="none became nodes") as caught:
            async with renting(fake):
                raise AssertionError("too dear")
        assert all("dearer than offered" in attempt for attempt in caught.value.attempts)
        nothing_is_left(fake)


@pytest.mark.parametrize("usd", [-3.0, float("nan"), float("-inf"), None, "free", True])
async def test_a_price_that_is_none_is_said(usd: object) -> None:
    async with FakeProvider("vast") as fake:
        fake.twist = with_fields(dph_total=usd)
        async with renting(fake) as rental:
            assert rental.usd_per_hour == pytest.approx(3.0)
            assert "nobody says what it costs" in rental.notes[-1]
        fake.twist = with_fields(dph_base=usd)
        assert await find_offers([provider_of("vast", fake.url, 0)], WANT) == ()
        nothing_is_left(fake)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_words_of_theirs_drive_no_terminal(dialect: str) -> None:
    long = ESCAPES + "A" * (1 << 20)
    async with FakeProvider(dialect) as fake:
        provider = provider_of(dialect, fake.url, fake.machines.port)
        fake.twist = with_fields(
            name=long, gpu_name="A " + long, gpu_description="A " + long, gpuType="A " + long, region=long
        )
        with contextlib.suppress(ProviderError):
            for offer in await find_offers([provider], WANT):
                assert str(offer).isprintable()
                assert len(str(offer)) < 10_000
        fake.twist = None
        short = Patience(poll_s=0.05, settle_s=0.5, end_s=0.5)

        async def work() -> None:
            async with renting(fake, patience=short):
                fake.twist = with_fields(id=ESCAPES)
                fake.faults["end refused"] = 10**6
                [found] = await find_rentals([provider], owner="me")
                assert all(name.isprintable() for name in found.instances)

        with pytest.raises(NotGivenBack) as caught:
            await work()
        assert caught.value.describe().replace("\n", "").isprintable()
        fake.twist = None
        fake.faults.clear()
        await reap_rentals([provider], owner="me", patience=PATIENCE)
        nothing_is_left(fake)


async def test_a_key_follows_no_redirect() -> None:
    heard: list[str] = []

    async def listen(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.json_response({})

    async def send_away(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://127.0.0.2:{other}/"})

    async with contextlib.AsyncExitStack() as stack:
        other = await serve(stack, listen, "127.0.0.2")
        port = await serve(stack, send_away, "127.0.0.1")
        for dialect in DIALECTS:
            provider = provider_of(dialect, f"http://127.0.0.1:{port}", 0)
            with pytest.raises(ProviderError, match="HTTP 307") as caught:
                await provider.instances()
            assert caught.value.reason == "protocol"
    assert heard == []


async def serve(stack: contextlib.AsyncExitStack, handler: Any, address: str) -> int:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, 0).start()
    return int(runner.addresses[0][1])


async def test_a_body_that_never_ends_holds_nobody_beyond_his_time() -> None:
    async with FakeProvider("runpod") as fake:
        fake.drips = True
        short = Patience(poll_s=0.05, settle_s=0.5, end_s=0.5)
        async with asyncio.timeout(40):  # one request alone may take 60 s, and is repeated
            with pytest.raises(NotGivenBack) as caught:
                async with renting(fake, patience=short, boot_s=1.0):
                    raise AssertionError("nobody says that they are ready")
        names = [one.name for one in fake.machines.living()]
        assert len(names) == 2
        assert all(name in str(caught.value) for name in names)
        assert "it did not answer in time" in caught.value.evidence
        fake.drips = False
        await reap_rentals([provider_of("runpod", fake.url, 0)], owner="me", patience=PATIENCE)
        nothing_is_left(fake)


async def test_a_netrc_with_a_word_for_everybody_is_in_no_ones_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with FakeProvider("runpod") as fake:
        assert len(await find_offers([provider_of("runpod", fake.url, 0)], WANT)) == 1


SHAPES: list[Any] = [
    *([], 7, "x", None, {}, {"data": 7}, {"pods": {}}, {"instances": "x"}, {"data": [[], 7, None, "x"]}),
    {"pods": [{"id": [], "name": {}, "ssh": 7, "cost": {}}]},
    {"instances": [{"ports": {"22/tcp": [7, {}]}}]},
]


async def test_nonsense_of_every_shape_is_an_error_of_the_provider() -> None:
    texts = [*map(json.dumps, SHAPES), "[" * 100_000, "1" * 10_000, "\xff", '{"a": NaN}']

    async def say(request: web.Request) -> web.Response:
        number = int(request.path.split("/")[1])
        return web.Response(text=texts[number], content_type="application/json")

    async with contextlib.AsyncExitStack() as stack:
        port = await serve(stack, say, "127.0.0.1")
        for dialect in DIALECTS:
            for number in range(len(texts)):
                provider = provider_of(dialect, f"http://127.0.0.1:{port}/{number}", 0)
                for ask in (provider.instances(), provider.offers(WANT)):
                    with contextlib.suppress(ProviderError):
                        assert isinstance(await ask, tuple)
