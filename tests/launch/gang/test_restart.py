"""Launches that are started again: as a whole, on a new port, a spare in the place of the node that failed."""

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.launch.gang.restart import Recovery, signature
from asyncdeploy.launch.placement import NodePlace
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.nodes.report import Outcome, Report
from asyncdeploy.run.job import Job
from asyncdeploy.values.errors import Cancelled, LaunchFailed
from asyncdeploy.values.events import Event
from tests.support.events import notes

FAILS_ONCE = 'echo attempt $ASYNCDEPLOY_ATTEMPT; test "$ASYNCDEPLOY_ATTEMPT" != 0 || test $NODE_RANK != 1 || exit 9'
WAITS = "until [ -e go ]; do sleep 0.05; done"


@asynccontextmanager
async def cluster_of(count: int) -> AsyncIterator[tuple[ad.LocalCluster, ad.Pool, list[Event]]]:
    async with ad.LocalCluster(count) as cluster:
        seen: list[Event] = []
        async with cluster.pool(observer=seen.append) as pool:
            yield cluster, pool, seen


def ranks(line: str) -> ad.Ranks:
    return ad.Ranks(line, nproc_per_node=1)


def test_a_number_of_times_is_asked_for() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        ad.Restart(times=0)


def test_what_makes_two_causes_the_same() -> None:
    first = LaunchFailed("gpu-a", "m", cause="RuntimeError: step 17 at 0x7f3a\nmore", status=1)
    again = LaunchFailed("gpu-b", "n", cause="RuntimeError: step 912 at 0x99\nother", status=1)
    assert signature(first) == signature(again)
    assert signature(first) != signature(LaunchFailed("gpu-a", "m", cause="ValueError: step 17", status=1))
    assert signature(LaunchFailed("gpu-a", "m", status=1)) != signature(LaunchFailed("gpu-b", "m", status=1))


def test_a_node_that_fell_silent_needs_a_spare() -> None:
    nodes = [ad.Node("a"), ad.Node("b")]
    silent = LaunchFailed("b", "does not answer", node_rank=1)
    gone = Cancelled("a", "stopped because of b")
    report = Report((Outcome(nodes[0], "cancelled", None, gone), Outcome(nodes[1], "unknown", None, silent)))
    with_spare = Recovery(ad.Restart(), ["on a", "on b"], ["on c"], None, 5.0)
    plan = with_spare.plan(report, silent)
    assert plan is not None
    assert plan.deployments == ["on a", "on c"]
    assert (with_spare.attempt, with_spare.spares) == (0, ["on c"]), "nothing was taken yet"
    with_spare.take(plan)
    assert (with_spare.attempt, with_spare.spares) == (1, [])
    assert with_spare.plan(report, silent) is None, "the same cause again"
    without = Recovery(ad.Restart(), ["on a", "on b"], [], None, 5.0)
    assert without.plan(report, silent) is None, "nobody knows what still runs there"


def test_nobody_elses_word_says_which_attempt_runs() -> None:
    """A node that is asked for a launch (find_launch) does not put one of its own in its place."""
    node = ad.Node("a")
    place = NodePlace(node, 0, 1, "10.0.0.1")
    job = Job(node, "train.0-aaaaaaaa")
    launch = ad.Launch(
        "train-aaaaaaaa", (job,), ad.Placement("train-aaaaaaaa", "10.0.0.1", 1, (place,)), 5, ("/a",), (0.0,)
    )
    with_restart = Recovery(ad.Restart(), [], [], None, 5.0).begin(launch)
    assert "attempts" not in with_restart.to_dict()
    assert ad.Launch.from_dict(with_restart.to_dict()) == launch
    for theirs in ({"current": launch.to_dict()}, {}, "now"):
        with pytest.raises(ValueError, match="Launch has no field 'attempts'"):
            ad.Launch.from_dict({**launch.to_dict(), "attempts": theirs})


async def test_a_spare_takes_the_place_of_the_node_that_failed(workspace: ad.Workspace, tmp_path: Path) -> None:
    async with cluster_of(4) as (cluster, pool, seen):
        launch = await ad.fan_out(
            cluster.nodes[:3],
            workspace,
            ranks(f"{FAILS_ONCE}; mkdir -p results; echo $NODE_RANK >results/rank"),
            ad.SystemEnv(),
            restart=ad.Restart(),
            spares=cluster.nodes[3:],
            pool=pool,
        )
        report = await ad.wait_launch(launch, pool=pool)
        assert report.ok, report
        assert [outcome.node.name for outcome in report] == ["local-0", "local-3", "local-2"]
        current = launch.current
        assert current.id != launch.id
        assert (launch.placement.attempt, current.placement.attempt) == (0, 1)
        (await ad.collect_all(launch, "results", tmp_path / "home", pool=pool)).unwrap()
        (note,) = notes(seen, "begins")
        assert "local-3 takes the place of local-1" in note
        assert f"attempt 1 of {launch.id}" in note
        assert "exited 9" in note
        current.save(tmp_path / "saved.json")
        assert ad.Launch.load(tmp_path / "saved.json") == current
        assert pickle.loads(pickle.dumps(launch)) == copy.deepcopy(launch) == launch
        assert hash(launch) == hash(attrs.evolve(launch, attempts=None))
        assert pickle.loads(pickle.dumps(launch)).current == launch, "it leads on in this process only"
        assert current.before == (launch.id,)
        assert await ad.find_launch(cluster.nodes, launch.id, pool=pool) == current
        assert await ad.find_launch(cluster.nodes, current.id, pool=pool) == current
        with pytest.raises(LaunchFailed, match=rf"run {current.id} has nodes that were not named: local-3"):
            await ad.find_launch(cluster.nodes[:3], launch.id, pool=pool)
    assert (tmp_path / "home" / "1-local-3" / "rank").read_text() == "1\n"


async def test_without_a_spare_it_runs_where_it_did_and_lines_of_all_attempts_are_given(
    workspace: ad.Workspace,
) -> None:
    async with cluster_of(2) as (cluster, pool, _):
        launch = await ad.fan_out(
            cluster.nodes, workspace, ranks(FAILS_ONCE), ad.SystemEnv(), restart=ad.Restart(), pool=pool
        )
        async with ad.follow_launch(launch, pool=pool) as lines:
            texts = [(line.node_rank, line.text) async for line in lines]
        assert lines.report is not None
        assert lines.report.ok
        assert lines.launch == launch.current
        assert (0, "attempt 1") in texts
        assert (1, "attempt 1") in texts
        assert texts.index((1, "attempt 0")) < texts.index((1, "attempt 1"))
        assert lines.offsets == (len("attempt 1\n"),) * 2


async def test_the_same_cause_twice_and_too_many_end_it(workspace: ad.Workspace) -> None:
    async with cluster_of(2) as (cluster, pool, seen):
        for line, attempts in (("exit 4", 1), ("exit $((ASYNCDEPLOY_ATTEMPT + 4))", 2)):
            seen.clear()
            launch = await ad.fan_out(
                cluster.nodes[:1], workspace, ranks(line), ad.SystemEnv(), restart=ad.Restart(times=2), pool=pool
            )
            report = await ad.wait_launch(launch, pool=pool)
            failed = failure_of(report)
            assert failed is not None
            assert len(notes(seen, "begins")) == attempts
            assert launch.current.placement.attempt == attempts
            assert failed.launch_id == launch.current.id


async def test_what_a_person_stops_stays_stopped(workspace: ad.Workspace) -> None:
    async with cluster_of(2) as (cluster, pool, seen):
        launch = await ad.fan_out(
            cluster.nodes, workspace, ranks(WAITS), ad.SystemEnv(), restart=ad.Restart(), grace_s=0.5, pool=pool
        )
        elsewhere = ad.Launch.from_dict(launch.to_dict())
        await ad.stop_launch(elsewhere, pool=pool)  # as from another machine, which knows of no restart
        assert not (await ad.wait_launch(launch, pool=pool)).ok
        assert notes(seen, "begins") == []


async def test_a_node_that_cannot_be_made_ready_is_replaced_at_once(workspace: ad.Workspace) -> None:
    async with cluster_of(3) as (cluster, pool, seen):
        broken = cluster.nodes[0]
        (cluster.home(broken) / "project").mkdir()
        (cluster.home(broken) / "project" / "theirs").write_text("not ours")
        launch = await ad.fan_out(
            cluster.nodes[:2], workspace, ranks("true"), ad.SystemEnv(), spares=cluster.nodes[2:], pool=pool
        )
        assert [node.name for node in launch.nodes] == ["local-2", "local-1"]
        assert (await ad.wait_launch(launch, pool=pool)).ok
        assert notes(seen, "takes no part")
        with pytest.raises(LaunchFailed, match="not ready"):
            await ad.fan_out(cluster.nodes[:2], workspace, ranks("true"), ad.SystemEnv(), pool=pool)
        with pytest.raises(ValueError, match="local-1"):
            await ad.fan_out(cluster.nodes[1:2], workspace, ranks("true"), spares=cluster.nodes[1:2], pool=pool)


@pytest.mark.parametrize("follows", [False, True], ids=["waits", "follows"])
async def test_l5_all_who_watch_go_on_with_the_same_attempt(workspace: ad.Workspace, *, follows: bool) -> None:
    async with cluster_of(2) as (cluster, pool, seen):
        launch = await ad.fan_out(
            cluster.nodes, workspace, ranks(FAILS_ONCE), ad.SystemEnv(), restart=ad.Restart(), pool=pool
        )
        first = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        if follows:
            async with ad.follow_launch(launch, pool=pool) as lines:
                texts = [line.text async for line in lines]
            assert texts.count("attempt 1") == 2
            assert lines.report is not None
            reports = [await first, lines.report]
        else:
            reports = [await first, await ad.wait_launch(launch, pool=pool)]
            reports += await asyncio.gather(*(ad.wait_launch(launch, pool=pool) for _ in range(3)))
        assert all(report.ok for report in reports), reports
        assert len(notes(seen, "begins")) == 1
        assert launch.current.placement.attempt == 1


async def test_l5_two_who_watch_from_the_beginning(workspace: ad.Workspace) -> None:
    async with cluster_of(2) as (cluster, pool, seen):
        line = f"{WAITS}; {FAILS_ONCE}"
        launch = await ad.fan_out(
            cluster.nodes, workspace, ranks(line), ad.SystemEnv(), restart=ad.Restart(), grace_s=1, pool=pool
        )
        watching = [asyncio.create_task(ad.wait_launch(launch, pool=pool)) for _ in range(3)]
        for node in cluster.nodes:
            (cluster.home(node) / "project" / "go").touch()
        reports = await asyncio.gather(*watching)
        assert [report.ok for report in reports] == [True] * 3
        assert len(notes(seen, "begins")) == 1


@pytest.mark.parametrize("where", ["between", "start"])
async def test_l6_one_that_is_cancelled_as_the_next_attempt_starts_is_tried_again(
    workspace: ad.Workspace, where: str
) -> None:
    started = asyncio.Event()

    async def between(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
        started.set()
        if where == "between" and len(notes(seen, "begins")) == 1:
            await asyncio.sleep(600)

    async with cluster_of(3) as (cluster, pool, seen):
        launch = await ad.fan_out(
            cluster.nodes[:2],
            workspace,
            ranks(FAILS_ONCE),
            ad.SystemEnv(),
            restart=ad.Restart(times=1, between=between),
            spares=cluster.nodes[2:],
            pool=pool,
        )
        first = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        await started.wait()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        assert launch.current == launch, "no other attempt runs"
        report = await ad.wait_launch(launch, pool=pool)
        assert report.ok, report
        assert [outcome.node.name for outcome in report] == ["local-0", "local-2"]
        assert len(notes(seen, "begins")) == 2


async def test_l6_what_is_stopped_as_the_next_attempt_starts_stays_stopped(workspace: ad.Workspace) -> None:
    async def between(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
        await ad.stop_launch(failed, pool=pool)

    async with cluster_of(2) as (cluster, pool, _):
        launch = await ad.fan_out(
            cluster.nodes,
            workspace,
            ranks(FAILS_ONCE),
            ad.SystemEnv(),
            restart=ad.Restart(between=between),
            pool=pool,
        )
        report = await ad.wait_launch(launch, pool=pool)
        assert failure_of(report) is not None
        assert launch.current == launch


async def test_l25_something_is_done_between_two_attempts(workspace: ad.Workspace) -> None:
    given: list[tuple[ad.Launch, list[str]]] = []

    async def between(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
        given.append((failed, [each.node.name for each in following]))
        (new,) = [each for each in following if each.node not in failed.nodes]
        await ad.run_in_project(pool, new, "echo 17 >step", check=True)

    async with cluster_of(3) as (cluster, pool, _):
        launch = await ad.fan_out(
            cluster.nodes[:2],
            workspace,
            ranks(f"{FAILS_ONCE}; test $NODE_RANK = 0 || test $(cat step) = 17"),
            ad.SystemEnv(),
            restart=ad.Restart(between=between),
            spares=cluster.nodes[2:],
            pool=pool,
        )
        report = await ad.wait_launch(launch, pool=pool)
        assert report.ok, report
    assert given == [(launch, ["local-0", "local-2"])]


async def test_l25_what_cannot_be_done_between_leaves_the_failure(workspace: ad.Workspace) -> None:
    async def cannot(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
        raise ad.TransferFailed("local-0", "there is no checkpoint")

    async def slips(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
        raise KeyError("step")

    async with cluster_of(2) as (cluster, pool, seen):
        line, nodes = ranks("exit 4"), cluster.nodes[:1]
        launch = await ad.fan_out(nodes, workspace, line, ad.SystemEnv(), restart=ad.Restart(between=cannot), pool=pool)
        failed = failure_of(await ad.wait_launch(launch, pool=pool))
        assert failed is not None
        assert failed.status == 4
        assert notes(seen, "attempt 1 could not be started: local-0: there is no checkpoint")
        launch = await ad.fan_out(nodes, workspace, line, ad.SystemEnv(), restart=ad.Restart(between=slips), pool=pool)
        with pytest.raises(KeyError):
            await ad.wait_launch(launch, pool=pool)
