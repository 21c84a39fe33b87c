"""The fixtures for people who build on us, used as they would use them."""

from pathlib import Path

import pytest

from tests.support.places import ROOT

SCOPE = "asyncio_default_fixture_loop_scope=function"
PROJECT = """

import pytest_asyncio

from asyncdeploy.values.command import Command
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.run.attached import run_command


@pytest_asyncio.fixture
async def pool(local_cluster):
    cluster = await local_cluster(2)
    async with cluster.pool() as pool:
        pool.cluster = cluster
        yield pool


async def test_two_clusters(local_cluster):
    first, second = await local_cluster(1), await local_cluster(count=3, shell="/bin/bash")
    assert len(first.nodes) == 1 and len(second.nodes) == 3
    with open("left", "w") as file:
        file.write(str(first.folder) + " " + str(second.folder))


async def test_a_pool_in_a_fixture(pool):
    report = await map_nodes(pool.cluster.nodes, lambda node: run_command(pool.at(node), "exit 0"))
    assert report.ok
"""


def test_the_fixture_works_in_somebody_elses_project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["asyncdeploy.testing"]')
    pytester.makepyfile(PROJECT)
    result = pytester.runpytest_subprocess(
        "-q", "-p", "no:anyio", "-o", "asyncio_mode=auto", "-o", SCOPE, "-W", "error"
    )
    result.assert_outcomes(passed=2)
    for folder in (pytester.path / "left").read_text().split():
        assert not Path(folder).exists()
