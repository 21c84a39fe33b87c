"""Ring 3 and 4: ranks set off together, watched, stopped, found again. No torch here: any command can be a rank."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import fan_out, find_launch, follow_launch, stop_launch, wait_launch
from asyncdeploy.launch.gang.attached import run_launch
from asyncdeploy.launch.gang.start import SILENCE_S, start_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import Cancelled, LaunchFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.launches import Lines
from tests.support.programs.holders import kill_holders
from tests.support.waiting import BACK_S, eventually, is_alive

# A rank that says who it is, ignores TERM and has a child in a session of its own that does, too.
STUBBORN = """\
trap '' TERM
echo $$ > pid
setsid sh -c 'trap "" TERM; echo $$ > child; while :; do sleep 1; done' &
echo up
while :; do sleep 1; done
"""


@pytest.fixture
def workspace(workspace: Workspace) -> Workspace:
    """With the program of a rank."""
    (workspace.path / "stubborn.sh").write_text(STUBBORN)
    return workspace


@asynccontextmanager
async def started_cluster(count: int) -> AsyncIterator[tuple[LocalCluster, Pool]]:
    """A cluster and its pool."""
    async with LocalCluster(count) as cluster, cluster.pool() as pool:
        yield cluster, pool


async def deployed(pool: Pool, nodes: Sequence[Node], workspace: Workspace) -> tuple[Deployment, ...]:
    """The workspace on all nodes."""
    return (await deploy_all(nodes, workspace, SystemEnv(), pool=pool)).unwrap()


def pids_of(homes: Sequence[Path]) -> list[int]:
    """What the stubborn ranks wrote down before anything was stopped."""
    files = [home / "project" / name for home in homes for name in ("pid", "child")]
    return [int(file.read_text()) for file in files if file.exists() and file.read_text().strip()]


async def test_ranks_run_everywhere_and_their_results_come_home(workspace: Workspace, tmp_path: Path) -> None:
    async with started_cluster(3) as (cluster, pool):
        line = "mkdir results; env > results/env; echo rank $NODE_RANK"
        launch = await fan_out(cluster.nodes, workspace, Lines((line,)), SystemEnv(), pool=pool)
        report = await wait_launch(launch, pool=pool)
        assert report.ok, report
        assert [status.exit_status for status in report.unwrap()] == [0, 0, 0]
        (await collect_all(launch, "results", tmp_path / "home", pool=pool)).unwrap()
    for rank in range(3):
        env = (tmp_path / "home" / f"{rank}-local-{rank}" / "env").read_text().splitlines()
        assert f"ASYNCDEPLOY_NODE_RANK={rank}" in env
        assert f"MASTER_PORT={launch.placement.master_port}" in env
        assert f"ASYNCDEPLOY_RUN_ID={launch.id}" in env


async def test_the_rank_that_fails_is_named_and_nothing_of_the_others_lives(workspace: Workspace) -> None:
    """F13, F8: TERM is ignored, by children in sessions of their own as well."""
    async with started_cluster(4) as (cluster, pool):
        homes = [cluster.home(node) for node in cluster.nodes]
        wait = "until [ -e go ]; do sleep 0.05; done; echo last words >&2; exit 7"
        lines = ("sh stubborn.sh", "sh stubborn.sh", wait, "sh stubborn.sh")
        launch = await fan_out(cluster.nodes, workspace, Lines(lines), SystemEnv(), grace_s=0.5, pool=pool)
        pids = await eventually(lambda: len(found := pids_of(homes)) == 6 and found)
        (homes[2] / "project" / "go").touch()
        with anyio.fail_after(BACK_S):
            report = await wait_launch(launch, pool=pool)
        assert not [pid for pid in pids if is_alive(pid)]
        assert [outcome.state for outcome in report] == ["cancelled", "cancelled", "failed", "cancelled"]
        error = failure_of(report)
        assert error is not None
        assert (error.node, error.node_rank, error.status, error.evidence) == ("local-2", 2, 7, "last words")
        assert "3 other nodes stopped because of it" in error.message
        assert str(report["local-0"].error) == "local-0: stopped because of local-2"


async def test_f5_a_rank_that_nobody_holds_is_the_cause_at_once(workspace: Workspace) -> None:
    """Nobody will know how it ends, so it is not waited for: neither are the others."""
    async with started_cluster(2) as (cluster, pool):
        homes = [cluster.home(node) for node in cluster.nodes]
        launch = await fan_out(
            cluster.nodes, workspace, Lines(("sh stubborn.sh",) * 2), SystemEnv(), grace_s=0.5, pool=pool
        )
        pids = await eventually(lambda: len(found := pids_of(homes)) == 4 and found)
        kill_holders(homes[0] / ".asyncdeploy/jobs" / launch.jobs[0].id)
        with anyio.fail_after(SILENCE_S / 2):
            report = await wait_launch(launch, pool=pool)
        assert not [pid for pid in pids if is_alive(pid)]
        assert [outcome.state for outcome in report] == ["failed", "cancelled"]
        assert "is lost: no exit status was recorded" in str(report["local-0"].error)
        assert str(report["local-1"].error) == "local-1: stopped because of local-0"


async def test_a_rank_that_cannot_start_leaves_none(workspace: Workspace) -> None:
    """F12."""
    async with started_cluster(4) as (cluster, pool):
        deployments = await deployed(pool, cluster.nodes, workspace)
        (cluster.home(cluster.nodes[2]) / "project").rename(cluster.home(cluster.nodes[2]) / "elsewhere")
        with pytest.raises(LaunchFailed, match=r"node rank 2 could not be started \(nothing stays") as caught:
            await start_launch(pool, deployments, Lines(("sh stubborn.sh",)))
        assert (caught.value.node, caught.value.node_rank) == ("local-2", 2)
        for node in cluster.nodes:
            await eventually(lambda node=node: not any("stubborn" in line for line in cluster.processes(node).values()))
            assert not list((cluster.home(node) / ".asyncdeploy").glob("launches/*"))


async def test_a_start_that_is_cancelled_leaves_none(workspace: Workspace) -> None:
    async with started_cluster(3) as (cluster, pool):
        deployments = await deployed(pool, cluster.nodes, workspace)
        homes = [cluster.home(node) for node in cluster.nodes]
        launcher = Lines(("sh stubborn.sh",), opens_port=True)  # rank 0 never listens, so the start goes on until then
        task = asyncio.create_task(start_launch(pool, deployments, launcher))
        pids = await eventually(lambda: len(found := pids_of(homes)) == 6 and found)
        task.cancel()
        with anyio.fail_after(BACK_S), pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not [pid for pid in pids if is_alive(pid)])


async def test_stop_and_find_again(workspace: Workspace, tmp_path: Path) -> None:
    async with LocalCluster(2) as cluster:
        homes = [cluster.home(node) for node in cluster.nodes]
        async with cluster.pool() as pool:
            launch = await fan_out(cluster.nodes, workspace, Lines(("sh stubborn.sh",)), SystemEnv(), pool=pool)
            launch.save(tmp_path / "launch.json")
        pids = await eventually(lambda: len(found := pids_of(homes)) == 4 and found)
        async with cluster.pool() as pool:
            assert await find_launch(cluster.nodes, launch.id, pool=pool) == launch
            with pytest.raises(LaunchFailed, match="has nodes that were not named: local-0"):
                await find_launch(cluster.nodes[1], launch.id, pool=pool)
            report = await stop_launch(Launch.load(tmp_path / "launch.json"), grace_s=0.2, pool=pool)
            with pytest.raises(LaunchFailed, match="2 nodes do not know a run"):
                await find_launch(cluster.nodes, "other-abcdefgh", pool=pool)
        assert not [pid for pid in pids if is_alive(pid)]
        assert [outcome.state for outcome in report] == ["cancelled", "cancelled"]
        assert not report.ok


async def test_following_gives_all_lines_and_stops_the_gang(workspace: Workspace) -> None:
    async with started_cluster(3) as (cluster, pool):
        homes = [cluster.home(node) for node in cluster.nodes]
        lines = ("sh stubborn.sh", "seq 3000; until [ -e go ]; do sleep 0.05; done; exit 3", "sh stubborn.sh")
        launch = await fan_out(cluster.nodes, workspace, Lines(lines), SystemEnv(), grace_s=0.2, pool=pool)
        got: dict[int, list[str]] = {0: [], 1: [], 2: []}
        async with follow_launch(launch, pool=pool) as follower:
            async for line in follower:
                got[line.node_rank].append(line.text)
                if line.text == "3000":
                    pids = await eventually(lambda: len(found := pids_of(homes)) == 4 and found)
                    (homes[1] / "project" / "go").touch()
        assert got[1] == [str(number) for number in range(1, 3001)]
        assert got[0] == got[2] == ["up"]
        assert follower.failure is not None
        assert (follower.failure.node, follower.failure.status) == ("local-1", 3)
        assert not [pid for pid in pids if is_alive(pid)]


async def test_leaving_a_follower_early_leaves_the_launch(workspace: Workspace) -> None:
    async with started_cluster(2) as (cluster, pool):
        launch = await fan_out(
            cluster.nodes, workspace, Lines(("echo up; until [ -e go ]; do sleep 0.05; done",)), SystemEnv(), pool=pool
        )
        async with follow_launch(launch, pool=pool) as follower:
            assert (await anext(follower)).text == "up"
        assert follower.report is None
        for node in cluster.nodes:
            (cluster.home(node) / "project" / "go").touch()
        assert (await wait_launch(launch, pool=pool)).ok


async def test_an_attached_launch_ends_with_its_first_failure(workspace: Workspace) -> None:
    async with started_cluster(3) as (cluster, pool):
        deployments = await deployed(pool, cluster.nodes, workspace)
        report = await run_launch(pool, deployments, Lines(("echo hi; sleep 60", "echo bad; exit 5", "sleep 60")))
        assert [outcome.state for outcome in report] == ["cancelled", "failed", "cancelled"]
        completed = report["local-1"].value
        assert completed is not None
        assert (completed.status, completed.text) == (5, "bad")
        assert isinstance(report["local-0"].error, Cancelled)
        assert str(report["local-0"].error) == "local-0: stopped because of local-1"
        assert (await run_launch(pool, deployments, Lines(("echo $NODE_RANK",)))).unwrap()[2].text == "2"


async def test_a_port_that_is_taken_after_the_proof(workspace: Workspace) -> None:
    """F11: rank 0 says that its port is in use, and the launch tries another one."""
    line = (
        'echo "$MASTER_PORT" >> ~/ports; [ "$(wc -l < ~/ports)" -lt 2 ] && '
        'echo "DistNetworkError: EADDRINUSE" && exit 1; echo fine'
    )
    async with started_cluster(2) as (cluster, pool):
        launcher = Lines((line, "sleep 60"), opens_port=True)
        launch = await fan_out(cluster.nodes, workspace, launcher, SystemEnv(), grace_s=0.2, pool=pool)
        ports = (cluster.home(cluster.nodes[0]) / "ports").read_text().split()
        assert len(ports) == 2
        assert launch.placement.master_port == int(ports[1])
        await stop_launch(launch, pool=pool)
        (cluster.home(cluster.nodes[0]) / "ports").unlink()
        always = Lines(("echo Address already in use; exit 1", "sleep 60"), opens_port=True)
        with pytest.raises(LaunchFailed, match="taken by something else 3 times"):
            await fan_out(cluster.nodes, workspace, always, SystemEnv(), pool=pool)


async def test_a_host_that_dies_between_bootstrap_and_start(
    sshd_nodes: Sequence[SshdNode], workspace: Workspace
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes]
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        deployments = await deployed(pool, nodes, workspace)
        sshd_nodes[2].stop()
        sshd_nodes[2].end_sessions()
        with pytest.raises(LaunchFailed) as caught:
            await start_launch(pool, deployments, Lines(("sh stubborn.sh",)))
    assert caught.value.node == nodes[2].name
    assert not any("stubborn" in line for sshd in sshd_nodes for line in sshd.processes().values())


@pytest.mark.long
async def test_a_host_that_dies_while_it_runs(network: Network, workspace: Workspace) -> None:
    """F13: one node falls silent; the others end by themselves and say why, its own fate is unknown."""
    machines = [network.start(f"box-{number}") for number in range(3)]
    async with Pool(host_keys=HostKeys.strict(machines[0].known_hosts)) as pool:
        deployments = await deployed(pool, [sshd.node for sshd in machines], workspace)
        launch = await start_launch(pool, deployments, Lines(("sh stubborn.sh",)), grace_s=2, silence_s=3)
        homes = [sshd.home for sshd in machines]
        await eventually(lambda: len(found := pids_of(homes)) == 6 and found)
        waiting = asyncio.create_task(wait_launch(launch, pool=pool))
        network.cut(machines[1])
        report = await waiting
    assert [outcome.state for outcome in report] == ["cancelled", "unknown", "cancelled"]
    assert str(report["box-0"].error) == "box-0: stopped because of box-1"
    cause = failure_of(report)
    assert cause is not None
    assert "node rank 1 (box-1) does not answer" in cause.message
    assert "the other nodes say: node rank 1 (box-1) fell silent for 3 s" in cause.message
    network.heal(machines[1])
    for sshd in machines:
        await eventually(lambda sshd=sshd: not sshd.processes(), "nothing lives", within_s=30)


async def test_a_dead_node_starts_nothing_anywhere(sshd_nodes: Sequence[SshdNode], workspace: Workspace) -> None:
    sshd_nodes[1].stop()
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        with pytest.raises(LaunchFailed, match="node rank 1 is not ready, nothing was started") as caught:
            await fan_out(
                [sshd.node for sshd in sshd_nodes], workspace, Lines(("sh stubborn.sh",)), SystemEnv(), pool=pool
            )
    assert caught.value.node == sshd_nodes[1].node.name
    assert json.dumps(caught.value.to_dict())
    assert not any("stubborn" in line for sshd in sshd_nodes for line in sshd.processes().values())
