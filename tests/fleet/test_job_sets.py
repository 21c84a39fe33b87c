"""Jobs on many nodes as one thing: asked, waited for, followed, stopped; a start that failed stays named."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.values.events import Event
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes

WAITS = "echo up; until [ -e go ]; do sleep 0.05; done; echo done"


async def deployed(pool: ad.Pool, nodes: Sequence[SshdNode], project: Path) -> tuple[ad.Deployment, ...]:
    (project / "a").write_text("a")
    report = await ad.deploy_all([sshd.node for sshd in nodes], project, ad.SystemEnv(), pool=pool)
    return report.unwrap()


async def test_all_of_them_are_asked_waited_for_and_followed(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: ad.Pool
) -> None:
    nodes = sshd_nodes[:3]
    deployments = await deployed(pool, nodes, project)
    jobs = await ad.start_all(deployments, WAITS, name="waits", pool=pool)
    assert [job.name for job in jobs.unwrap()] == ["waits"] * 3, "a Report as before"
    assert [status.state for status in (await jobs.status(pool=pool)).unwrap()] == ["running"] * 3
    early = await jobs.wait(timeout_s=0.1, pool=pool)
    assert [outcome.state for outcome in early] == ["unknown"] * 3
    got: dict[str, list[str]] = {sshd.node.name: [] for sshd in nodes}
    async with jobs.follow(pool=pool) as lines:
        async for line in lines:
            got[line.node].append(line.text)
            if sum(map(len, got.values())) == 3:
                assert lines.report is None
                for sshd in nodes:
                    (sshd.home / "project/go").touch()
    assert got == {sshd.node.name: ["up", "done"] for sshd in nodes}
    assert lines.report is not None
    assert lines.report.ok
    assert lines.report == await jobs.wait(pool=pool)
    again = ad.JobSet.of([job for sshd in nodes for job in await ad.list_jobs(pool.at(sshd.node))])
    assert [job.id for job in again.values] == [job.id for job in jobs.values]
    assert (await again.wait(pool=pool)).ok


async def test_one_that_fails_ends_no_other_and_is_named(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: ad.Pool
) -> None:
    deployments = await deployed(pool, sshd_nodes[:3], project)
    jobs = await ad.start_all(
        deployments, lambda node: "exit 3" if node.name == "node-1" else "echo fine", name="some", pool=pool
    )
    report = await jobs.wait(pool=pool)
    assert [outcome.state for outcome in report] == ["ok", "failed", "ok"]
    assert isinstance(report["node-1"].error, ad.JobFailed)
    assert report["node-1"].error.status == 3
    async with jobs.follow(pool=pool) as lines:
        assert sorted([line.node async for line in lines]) == ["node-0", "node-2"]
    assert lines.report is not None
    assert [outcome.value for outcome in lines.report] == [outcome.value for outcome in report]


async def test_they_are_stopped_together(sshd_nodes: Sequence[SshdNode], project: Path, pool: ad.Pool) -> None:
    deployments = await deployed(pool, sshd_nodes[:2], project)
    jobs = await ad.start_all(
        deployments, lambda node: "true" if node.name == "node-0" else "sleep 97531", name="sleeps", pool=pool
    )
    await ad.wait_job(pool.at(sshd_nodes[0].node), jobs.values[0])
    report = await jobs.stop(grace_s=1, pool=pool)
    assert [outcome.state for outcome in report] == ["ok", "cancelled"]
    assert "was stopped, it died of SIGTERM" in str(report["node-1"].error)
    again = await jobs.stop(grace_s=1, pool=pool)
    assert [outcome.value for outcome in again] == [outcome.value for outcome in report], "what has ended stays so"


async def test_what_was_not_started_keeps_its_reason(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: ad.Pool
) -> None:
    deployments = await deployed(pool, sshd_nodes[:2], project)
    first = await ad.start_all(deployments[:1], "sleep 97531", name="same", pool=pool)
    jobs = await ad.start_all(deployments, "echo hi", name="same", pool=pool)
    assert [outcome.state for outcome in jobs] == ["failed", "ok"]
    for report in (await jobs.status(pool=pool), await jobs.wait(pool=pool), await jobs.stop(pool=pool)):
        assert [outcome.node.name for outcome in report] == ["node-0", "node-1"]
        assert isinstance(report["node-0"].error, ad.JobExists)
        assert report["node-1"].ok
    async with jobs.follow(pool=pool) as lines:
        assert [line.text async for line in lines] == ["hi"]
    assert lines.report is not None
    assert isinstance(lines.report["node-0"].error, ad.JobExists)
    await first.stop(grace_s=0, pool=pool)
    with pytest.raises(ad.FleetError, match="1 of 2 nodes failed"):
        jobs.unwrap()


@pytest.mark.long
async def test_a_node_that_is_lost_is_unknown_and_the_others_go_on(
    sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    seen: list[Event] = []
    async with pool_for(sshd_nodes[0]) as pool:
        deployments = await deployed(pool, sshd_nodes[:2], project)
        jobs = await ad.start_all(deployments, "echo hi", name="short", pool=pool)
        assert (await jobs.wait(pool=pool)).ok
    sshd_nodes[1].stop()
    async with pool_for(sshd_nodes[0], observer=seen.append) as pool:
        status = await jobs.status(pool=pool)
        assert [outcome.state for outcome in status] == ["ok", "unknown"]
        async with jobs.follow(pool=pool) as lines:
            assert [line.node async for line in lines] == ["node-0"]
        assert lines.report is not None
        assert [outcome.state for outcome in lines.report] == ["ok", "unknown"]
        assert any("cannot be followed any more" in text for text in notes(seen))
    sshd_nodes[1].start()


def test_a_set_travels_and_has_one_job_a_node() -> None:
    job = ad.Job(ad.Node("a"), "train-abcdefgh", "train")
    jobs = ad.JobSet.of([job, ad.Job(ad.Node("b"), "train-abcdefgg")])
    again = pickle.loads(pickle.dumps(jobs))
    assert again == jobs
    assert isinstance(again, ad.JobSet)
    assert json.loads(json.dumps(jobs.to_dict()))["ok"] is True
    with pytest.raises(ValueError, match="one job a node was expected, got two of a"):
        ad.JobSet.of([job, job])


async def test_a_set_of_none_is_empty() -> None:
    jobs = ad.JobSet.of([])
    assert len(await jobs.wait()) == 0
    async with jobs.follow() as lines:
        assert [line async for line in lines] == []
