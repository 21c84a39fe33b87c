"""Machines that somebody else rented are found by name, and never ended."""

import pytest

from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.existing import provider_nodes
from tests.support.rented.fake import DIALECTS, FakeProvider
from tests.support.rented.renter import provider_of


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_names_choose_and_numbers_order(dialect: str) -> None:
    async with FakeProvider(dialect) as fake:
        for name in ("train-10", "train-2", "else 7"):
            fake.machines.make(name, 1.0, foreign=True)
        provider = provider_of(dialect, fake.url, fake.machines.port)
        nodes = await provider_nodes(provider, "train-*", key_path="/k")
        assert [node.name for node in nodes] == ["train-1", "train-2", "train-10"]
        assert {(node.port, node.user) for node in nodes} == {(fake.machines.port, "root")}
        assert [node.name for node in await provider_nodes(provider, "else*")] == ["else-7"]
        with pytest.raises(ProviderError, match="'nobody' was expected"):
            await provider_nodes(provider, "nobody")
        assert fake.crimes == []
