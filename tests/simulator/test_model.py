"""The model of a node says what a real one says: the same stories over the model, and over real programs."""

import asyncio
import re
from typing import Any

import pytest

import asyncdeploy as ad
from asyncdeploy.run.jobs import read_log
from tests.simulator.play import SimConnector, simulated

RUNS = {
    "ends well": ad.Command("echo hello; exit 0"),
    "fails": ad.Command("echo a; exit 3"),
    "kills itself": ad.Command("echo a; kill -9 $$"),
    "reads": ad.Command("cat", stdin=b"some input\n" * 1000),
    "takes too long": ad.Command("echo a; sleep 30", timeout_s=0.7),
    "prints": ad.Command("seq 700"),
    "obeys in its way": ad.Command("trap 'exit 7' TERM; sleep 30", timeout_s=0.7),
}


async def runs(pool: ad.Pool, node: ad.Node) -> list[str]:
    """Run one command after another."""
    return [_said(await ad.run_all([node], command, pool=pool)) for command in RUNS.values()]


async def a_job_ends(pool: ad.Pool, node: ad.Node) -> list[str]:
    """Start a job and wait for it."""
    remote = pool.at(node)
    job = await ad.start_job(remote, "echo begun; sleep 1; echo done; exit 4", name="a")
    said = [(await ad.job_status(remote, job)).state]
    said += [_status(await ad.wait_job(remote, job, timeout_s=0.2)), _status(await ad.wait_job(remote, job))]
    return [*said, await read_log(remote, job), _status(await ad.stop_job(remote, job))]


async def a_job_is_stopped(pool: ad.Pool, node: ad.Node) -> list[str]:
    """Start a job, try to start another of its name, end it, start another."""
    remote = pool.at(node)
    job = await ad.start_job(remote, "sleep 30", name="b")
    said = [await _error(ad.start_job(remote, "sleep 30", name="b"))]
    said += [_status(await ad.stop_job(remote, job)), (await ad.find_job(remote, job.id)).command]
    second = await ad.start_job(remote, "exit 0", name="b")
    said += [_status(await ad.wait_job(remote, second))]
    return [*said, str(sorted(each.command for each in await ad.list_jobs(remote)))]


async def a_job_is_deaf(pool: ad.Pool, node: ad.Node) -> list[str]:
    """End a job that does not hear TERM, and one whose time is over."""
    remote = pool.at(node)
    job = await ad.start_job(remote, "trap '' TERM; sleep 30", name="c")
    late = await ad.start_job(remote, ad.Command("sleep 30", timeout_s=0.3), name="d")
    await asyncio.sleep(0.3)  # until it has said that it is deaf, which nothing tells
    said = [_status(await ad.stop_job(remote, job, grace_s=0.3)), _status(await ad.wait_job(remote, late))]
    return [*said, await _error(ad.find_job(remote, "nobody-abcdefgh"))]


async def a_start_is_taken_back(pool: ad.Pool, node: ad.Node) -> list[str]:
    """Cancel a start, and start again under the same id; start one twice."""
    remote = pool.at(node)
    await ad.probe_node(remote)
    starting = asyncio.ensure_future(ad.start_job(remote, "sleep 30", name="e", job_id="e-aaaaaaaa"))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait((starting,))
    job = await ad.start_job(remote, "sleep 1; exit 0", name="f", job_id="f-aaaaaaaa")
    again = await ad.start_job(remote, "sleep 1; exit 0", name="f", job_id="f-aaaaaaaa")
    return [str(starting.cancelled()), str(job.id == again.id), _status(await ad.wait_job(remote, again))]


STORIES = (runs, a_job_ends, a_job_is_stopped, a_job_is_deaf, a_start_is_taken_back)


def _said(report: Any) -> str:
    (outcome,) = report.outcomes
    value = outcome.value
    seen = (value.status, value.signal, value.stdout) if value is not None else None  # a shell has its own words
    return f"{outcome.state} {type(outcome.error).__name__} {_known(str(outcome.error))} {seen}"


def _status(status: Any) -> str:
    return f"{status.state} {status.exit_status} {status.signal} {status.stopped} {status.timed_out} {status.survivors}"


async def _error(call: Any) -> str:
    with pytest.raises(ad.DeployError) as info:
        await call
    return _known(f"{type(info.value).__name__} {info.value.message} {info.value.hint}")


def _known(text: str) -> str:
    return re.sub(r"\b([a-z])-[a-z2-7]{8}\b", r"\1-ID", re.sub(r"^\S+: ", "", text))


def over_the_model(story: Any) -> list[str]:
    """Play a story over the model."""
    with simulated(0, 1, 0.01) as world:

        async def whole() -> list[str]:
            async with ad.Pool(connector=SimConnector(world)) as pool:
                said: list[str] = await story(pool, ad.Node("n0", user="sim", name="n0"))
            return said

        said = world.loop.run_until_complete(whole())
    assert not world.broken
    return said


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_the_model_says_what_a_node_says(story: Any) -> None:
    async with ad.LocalCluster(1) as cluster, cluster.pool() as pool:
        theirs = await story(pool, cluster.nodes[0])
    assert await asyncio.to_thread(over_the_model, story) == theirs
