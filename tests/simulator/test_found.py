"""What the simulator found, each as the short story that it became."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import asyncdeploy as ad
from tests.simulator.machine.world import World
from tests.simulator.model import jobs
from tests.simulator.model.worker import Worker
from tests.simulator.play import SimConnector, simulated

NARROW = ad.Limits(channels_per_connection=1, connections_per_node=1)
"""One call at a time."""


def played(story: Callable[[World, ad.Pool, ad.Node], Awaitable[Any]], limits: ad.Limits | None = None) -> Any:
    """Play a story on one node and return what it returned."""
    with simulated(0, 1, 0.01) as world:

        async def whole() -> Any:
            async with ad.Pool(connector=SimConnector(world), limits=limits) as pool:
                return await story(world, pool, ad.Node("n0", user="sim", name="n0"))

        said = world.loop.run_until_complete(whole())
    assert not world.broken
    return said


def test_a_wait_that_queued_behind_another_says_what_is_and_not_that_the_connection_broke() -> None:
    async def story(_: World, pool: ad.Pool, node: ad.Node) -> list[str]:
        remote = pool.at(node)
        job = await ad.start_job(remote, "sleep 100", name="a")
        waits = [ad.wait_job(remote, job, timeout_s=8) for _ in range(3)]
        return [status.state for status in await asyncio.gather(*waits)]

    assert played(story, NARROW) == ["running"] * 3


def test_waits_behind_each_other_all_see_the_end() -> None:
    async def story(_: World, pool: ad.Pool, node: ad.Node) -> list[int | None]:
        remote = pool.at(node)
        job = await ad.start_job(remote, "sleep 300; exit 3", name="a")
        waits = [ad.wait_job(remote, job) for _ in range(4)]
        return [status.exit_status for status in await asyncio.gather(*waits)]

    assert played(story, NARROW) == [3] * 4


def test_a_wait_whose_connection_broke_ends_when_its_time_is_over() -> None:
    async def story(world: World, pool: ad.Pool, node: ad.Node) -> tuple[str, float]:
        remote = pool.at(node)
        job = await ad.start_job(remote, "sleep 100", name="a")
        world.loop.call_later(15.0, lambda: world.nodes["n0"].links[0].cut(), context=world.context())
        began = world.loop.now
        status = await ad.wait_job(remote, job, timeout_s=20)
        return status.state, round(world.loop.now - began)

    assert played(story) == ("running", 20)


def closing(how: Callable[[ad.Pool, ad.Node], Awaitable[None]], after_s: float) -> ad.Report[ad.Completed]:
    """Run a command, and end its connections a moment after it began to connect."""

    async def story(_: World, pool: ad.Pool, node: ad.Node) -> ad.Report[ad.Completed]:
        running = asyncio.ensure_future(ad.run_all([node], "echo hello; exit 0", pool=pool))
        await asyncio.sleep(after_s)
        await how(pool, node)
        return await running

    return played(story)


OPENING_S = 0.085
"""When a node has let us in, and its channel is on the way."""


def test_a_node_that_is_dropped_while_a_channel_is_opened_is_connected_anew() -> None:
    report = closing(lambda pool, node: pool.drop(node), OPENING_S)
    assert report.ok, report.failures
    assert report.outcomes[0].value.text == "hello"


def test_a_pool_that_is_closed_while_a_channel_is_opened_says_so() -> None:
    (outcome,) = closing(lambda pool, _: pool.close(), OPENING_S).outcomes
    assert (outcome.state, str(outcome.error)) == ("cancelled", "n0: the pool was closed")


async def hangs(_worker: Worker, _request: dict[str, Any]) -> dict[str, Any]:
    """Never answer: the node's disk has gone."""
    await asyncio.sleep(1000)
    return {}


def test_a_wait_is_back_in_its_time_where_the_log_of_a_failed_job_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(jobs.OPERATIONS, "read", hangs)

    async def story(world: World, pool: ad.Pool, node: ad.Node) -> tuple[int | None, str, bool]:
        remote = pool.at(node)
        job = await ad.start_job(remote, "exit 3", name="a")
        await asyncio.sleep(1)
        began = world.loop.now
        status = await ad.wait_job(remote, job, timeout_s=2)
        return status.exit_status, status.last_lines, world.loop.now - began < 8.2

    assert played(story) == (3, "", True)
