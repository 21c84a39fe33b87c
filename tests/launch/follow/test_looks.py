"""What launches there are and how each stands: looked at, never watched; silent nodes and odd folders spoil nothing."""

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.run.job import JobState
from asyncdeploy.values.errors import ToolMissing
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.launched import WAITS, launched
from tests.support.launches import launch_of
from tests.support.waiting import eventually


def go(nodes: Sequence[SshdNode]) -> None:
    for sshd in nodes:
        (sshd.home / "project/go").touch()


async def test_a_launch_that_runs_and_ends(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    nodes = [sshd_nodes[2], sshd_nodes[0]]  # rank order is not the order in which they are asked
    async with launched(nodes, ad.Workspace(project)) as (pool, launch, _):
        await eventually(lambda: "up" in (nodes[0].home / ".asyncdeploy/jobs" / launch.jobs[0].id / "log").read_text())
        listed = await ad.list_launches([sshd.node for sshd in sshd_nodes], pool=pool)
        (seen,) = listed.launches
        assert (seen.id, seen.name, seen.nodes) == (launch.id, "ranks", ("node-2", "node-0"))
        assert (seen.state, seen.words, seen.last_line) == ("RUNNING", "RUNNING 2/2", "up")
        assert seen.started_at is not None
        assert abs(seen.started_at - launch.created_at) < 60
        assert seen.ended_at is None
        assert [len(outcome.value or ()) for outcome in listed] == [1, 0, 1, 0]
        assert listed.ok
        assert re.fullmatch(
            r"run +nodes +state +started +elapsed +last line\n"
            rf"{launch.id}  node-\[2,0\] +RUNNING 2/2  \d\d-\d\d \d\d:\d\d  0:00:\d\d  up",
            str(listed),
        )
        assert repr(listed) == "LaunchList(4 nodes: 4 ok)"
        assert (await ad.launch_status(launch, pool=pool)) == seen
        go(nodes)
        await ad.wait_launch(launch, pool=pool)
        ended = await ad.launch_status(launch, pool=pool)
        assert (ended.words, ended.last_line, ended.root) == ("DONE 0", "done", None)
        assert [rank.state for rank in ended.ranks if rank] == ["exited", "exited"]
        assert ended.ended_at is not None
        assert ended.ended_at >= seen.started_at
        assert ended.describe().splitlines() == [
            f"{launch.id} DONE 0",
            "rank  node    state",
            "0     node-2  exited 0",
            "1     node-0  exited 0",
            "done",
        ]


async def test_one_that_failed_names_the_rank_and_one_that_was_stopped_names_none(
    sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    nodes = sshd_nodes[:2]
    line = f"test $NODE_RANK = 0 || {{ echo it broke; exit 7; }}; {WAITS}"
    async with launched(nodes, ad.Workspace(project), line) as (pool, launch, _):
        await ad.wait_launch(launch, pool=pool)
        seen = await ad.launch_status(launch, pool=pool)
        assert (seen.words, seen.root and seen.root.job.node.name) == ("FAILED 7", "node-1")
        assert seen.ranks[1] is not None
        assert seen.ranks[1].last_lines == "it broke"
    async with launched(nodes, ad.Workspace(project)) as (pool, launch, _):
        await ad.stop_launch(launch, grace_s=1, pool=pool)
        seen = await ad.launch_status(launch, pool=pool)
        assert (seen.words, seen.root) == ("STOPPED", None)
        newest, older = (await ad.list_launches([sshd.node for sshd in nodes], pool=pool)).launches
        assert (newest.words, older.words) == ("STOPPED", "FAILED 7")
        few = await ad.list_launches(nodes[0].node, newest=1, pool=pool)
        assert [status.id for status in few.launches] == [launch.id]


async def test_a_node_that_does_not_answer_is_named_and_nothing_is_said_of_its_rank(
    sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, ad.Workspace(project)) as (first, launch, _):
        while not await ad.read_log(first.at(nodes[0].node), launch.jobs[0]):
            pass  # what it prints first stands in what is looked at below, twice
        nodes[1].stop()
        nodes[1].end_sessions()
        async with pool_for(nodes[0]) as pool:
            seen = await ad.launch_status(launch, pool=pool)
            listed = await ad.list_launches([sshd.node for sshd in nodes], pool=pool)
            alone = await ad.list_launches(nodes[0].node, pool=pool)
            assert seen.words == "RUNNING 1/2"
            assert [name for name, _ in seen.silent] == ["node-1"]
            assert "refuses connections" in dict(seen.silent)["node-1"]
            assert listed.launches == (seen,)
            assert [outcome.node.name for outcome in listed.failures] == ["node-1"]
            assert str(listed).splitlines()[-1].startswith("node-1: 127.0.0.1 port")
            assert dict(alone.launches[0].silent) == {"node-1": "it was not asked"}
            go(nodes[:1])
            await ad.wait_job(pool.at(nodes[0].node), launch.jobs[0])
            seen = await ad.launch_status(launch, pool=pool)
            assert seen.words == "UNKNOWN 1/2", "no success that nobody has seen"
        nodes[1].start()
        go(nodes)
        async with pool_for(nodes[0]) as pool:
            assert (await ad.wait_launch(launch, pool=pool)).ok


async def test_a_rank_that_nobody_remembers_is_lost(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, ad.Workspace(project), "true") as (pool, launch, _):
        await ad.wait_launch(launch, pool=pool)
        shutil.rmtree(nodes[1].home / ".asyncdeploy/jobs" / launch.jobs[1].id)
        (seen,) = (await ad.list_launches([sshd.node for sshd in nodes], pool=pool)).launches
        assert seen.words == "LOST 1/2"


async def test_of_nodes_that_share_a_home_each_tells_of_its_own_rank(
    start_sshd: Callable[..., SshdNode], project: Path
) -> None:
    first = start_sshd("first", own_pids=True)
    nodes = [first, start_sshd("second", own_pids=True, home=first.home)]
    async with launched(nodes, ad.Workspace(project)) as (pool, launch, _):
        (seen,) = (await ad.list_launches([sshd.node for sshd in nodes], pool=pool)).launches
        assert seen.words == "RUNNING 2/2"
        alone = await ad.list_launches(nodes[1].node, pool=pool)
        assert [rank and rank.state for rank in alone.launches[0].ranks] == [None, "running"]
        go(nodes[:1])
        assert (await ad.wait_launch(launch, pool=pool)).ok
        assert (await ad.launch_status(launch, pool=pool)).words == "DONE 0"


async def test_odd_folders_are_passed_over(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    nodes = sshd_nodes[:1]
    async with launched(nodes, ad.Workspace(project), "true") as (pool, launch, events):
        await ad.wait_launch(launch, pool=pool)
        base = nodes[0].home / ".asyncdeploy/launches"
        (base / "a file").write_text("x")
        (base / "no-launch").mkdir()
        (base / "\udcff\x1b[2J").mkdir()
        for name, text in {
            "garbage-aaaaaaaa": b"\xff" * 100,
            "bomb-aaaaaaaa": zlib.compress(b" " * (100 << 20)),
            "other-aaaaaaaa": (base / launch.id / "launch.json").read_bytes(),
            "Bad Name": (base / launch.id / "launch.json").read_bytes(),
            "empty-aaaaaaaa": b"",
            "lists-aaaaaaaa": zlib.compress(b"[" * 100_000),
        }.items():
            (base / name).mkdir()
            (base / name / "launch.json").write_bytes(text)
        (base / "pipe-aaaaaaaa").mkdir()
        os.mkfifo(base / "pipe-aaaaaaaa/launch.json")  # whoever reads it waits for ever
        (base / "link-aaaaaaaa").symlink_to("/nowhere")
        (base / "closed-aaaaaaaa").mkdir(mode=0)
        listed = await ad.list_launches(nodes[0].node, pool=pool)
        assert listed.ok
        assert [status.id for status in listed.launches] == [launch.id]
        assert sum("describes none" in text for text in notes(events)) == 5
        few = await ad.list_launches(nodes[0].node, newest=1, pool=pool)
        assert few.ok
        assert any("more launches lie there" in text for text in notes(events))


async def test_of_one_that_was_started_again_the_last_attempt_is_told(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: ad.Pool
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    ranks = ad.Ranks("echo $ASYNCDEPLOY_ATTEMPT; exit $((9 * (1 - ASYNCDEPLOY_ATTEMPT)))", nproc_per_node=1)
    again = ad.Restart(times=1)
    launch = await ad.fan_out(nodes, project, ranks, ad.SystemEnv(), grace_s=1, restart=again, pool=pool)
    assert (await ad.wait_launch(launch, pool=pool)).ok
    (seen,) = (await ad.list_launches(nodes, pool=pool)).launches
    assert (seen.id, seen.attempt, seen.last_line, seen.words) == (launch.current.id, 1, "1", "DONE 0")
    assert await ad.launch_status(launch, pool=pool) == seen


async def test_nodes_that_disagree_are_both_heard_and_none_says_where_we_connect_to(
    sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, ad.Workspace(project), "true") as (pool, launch, _):
        await ad.wait_launch(launch, pool=pool)
        kept = nodes[1].home / ".asyncdeploy/launches" / launch.id / "launch.json"
        data = json.loads(zlib.decompress(kept.read_bytes()))
        data["jobs"][0]["node"] |= {"host": "203.0.113.7", "port": 9}
        kept.write_bytes(zlib.compress(json.dumps(data).encode()))
        listed = await ad.list_launches([sshd.node for sshd in nodes], pool=pool)
        assert [status.id for status in listed.launches] == [launch.id], "they tell the same of it"
        hosts = {rank.job.node.host for status in listed.launches for rank in status.ranks if rank is not None}
        assert hosts == {"127.0.0.1"}


async def test_a_node_without_python3_is_a_failure_with_that_reason(plain_sshd: SshdNode) -> None:
    async with pool_for(plain_sshd) as pool:
        (outcome,) = await ad.list_launches(plain_sshd.node, pool=pool)
    assert isinstance(outcome.error, ToolMissing)


def status_of(*states: "tuple[JobState, int | None, dict[str, object]] | None") -> ad.LaunchStatus:
    launch = launch_of(len(states))
    ranks = tuple(
        None if each is None else ad.JobStatus(job, each[0], each[1], ended_at=5.0, **each[2])  # type: ignore[arg-type]
        for job, each in zip(launch.jobs, states, strict=True)
    )
    return ad.LaunchStatus(launch.id, tuple(node.name for node in launch.nodes), ranks)


GOOD = ("exited", 0, {})
RUNS = ("running", None, {})
TOLD = ("signalled", None, {"signal": "TERM", "stopped": True, "told_at": 4.0, "because": "node rank 1 (b) exited 7"})
STOPPED = ("signalled", None, {"signal": "TERM", "stopped": True})


@pytest.mark.parametrize(
    "states,words",
    [
        ([GOOD, GOOD], "DONE 0"),
        ([GOOD, RUNS], "RUNNING 1/2"),
        ([GOOD, None], "UNKNOWN 1/2"),
        ([None, None], "UNKNOWN 2/2"),
        ([GOOD, ("elsewhere", None, {})], "UNKNOWN 1/2"),
        ([RUNS, ("exited", 3, {})], "FAILED 3"),
        ([TOLD, ("signalled", None, {"signal": "KILL"})], "FAILED KILL"),
        ([TOLD, None], "FAILED"),
        ([STOPPED, STOPPED], "STOPPED"),
        ([STOPPED, RUNS], "RUNNING 1/2"),
        ([("lost", None, {}), RUNS], "LOST 1/2"),
        ([("exited", 0, {"timed_out": True, "stopped": True}), GOOD], "FAILED 0"),
        ([("orphaned", None, {}), GOOD], "RUNNING 1/2"),
    ],
)
def test_the_state_of_the_whole(states: list[object], words: str) -> None:
    seen = status_of(*states)  # type: ignore[arg-type]
    assert seen.words == words
    assert seen.describe().startswith(f"{seen.id} {words}\n")
    assert (seen.state == "DONE") == all(rank is not None and rank.ok for rank in seen.ranks)


def test_it_shows_itself_in_one_line() -> None:
    seen = status_of(GOOD, RUNS)
    assert repr(seen) == "LaunchStatus('train-abcdefgh', 'RUNNING 1/2', 'gpu[0-1]')"
    many = status_of(*[GOOD] * 60, *[RUNS] * 3)
    assert many.describe().splitlines()[1:] == [
        "count  node        state",
        "60     gpu[0-59]   exited 0",
        "3      gpu[60-62]  is running",
    ]
    assert "<table>" in many._repr_html_()
    long = ad.LaunchStatus("x" * 48 + "-abcdefgh", tuple(f"{n}-{'y' * 60}" for n in range(9)), (None,) * 9)
    assert len(repr(long)) < 120


def test_a_status_without_its_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="one status for each of 2 nodes was expected, got 1"):
        attrs.evolve(status_of(GOOD, GOOD), ranks=(None,))


async def test_the_newest_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="newest: at least 1"):
        await ad.list_launches("a", newest=0)
