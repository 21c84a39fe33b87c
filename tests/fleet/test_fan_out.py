"""Ring 4: real torchrun jobs over real sshd nodes."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.launch import fan_out, find_launch, follow_launch, wait_launch
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.ranks import rank_workspace
from tests.support.tools import need_torch
from tests.support.waiting import is_alive

pytestmark = pytest.mark.long

# The nodes' own python has no torch; the one that runs the tests has.
PYTHON = sys.executable


@pytest.fixture(autouse=True)
def torch_is_here() -> None:
    """Give up without torch."""
    need_torch()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The programs of the ranks."""
    return rank_workspace(tmp_path / "project")


async def test_an_all_reduce_over_four_nodes(
    sshd_nodes: Sequence[SshdNode], workspace: Workspace, pool: Pool, tmp_path: Path
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes]
    launcher = Torchrun("all_reduce.py", nproc_per_node=2, python=PYTHON)
    launch = await fan_out(nodes, workspace, launcher, SystemEnv(), pool=pool)
    found = await find_launch(nodes, launch.id, pool=pool)
    report = await wait_launch(found, pool=pool)
    assert report.ok, [str(outcome.error) for outcome in report.failures]
    (await collect_all(found, "results", tmp_path / "home", pool=pool)).unwrap()
    for rank in range(8):
        path = tmp_path / "home" / f"{rank // 2}-{nodes[rank // 2].name}" / f"rank-{rank}.json"
        result = json.loads(path.read_text())
        assert result["sum"] == [36.0] * 4
        assert result["env"] == {
            "ASYNCDEPLOY_NODE_RANK": str(rank // 2),
            "LOCAL_RANK": str(rank % 2),
            "RANK": str(rank),
            "MASTER_PORT": str(launch.placement.master_port),
            "GLOO_SOCKET_IFNAME": "lo",
        }


async def test_a_failing_rank_while_somebody_only_follows(
    sshd_nodes: Sequence[SshdNode], workspace: Workspace, pool: Pool
) -> None:
    launcher = Torchrun("all_reduce.py", "3", nproc_per_node=2, python=PYTHON)
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    launch = await fan_out(nodes, workspace, launcher, SystemEnv(), grace_s=2, pool=pool)
    async with follow_launch(launch, pool=pool) as follower:
        lines = [line async for line in follower]
    sums = {line.text.partition("rank ")[2] for line in lines if ": sum " in line.text}
    assert sums == {f"{rank} of 4: sum 10" for rank in range(4)}
    error = follower.failure
    assert error is not None
    assert (error.node, error.node_rank, error.status) == (nodes[1].name, 1, 1)
    assert "rank 3 (status 1)" in error.message
    assert "node rank 1, local rank 1" in error.message
    assert error.evidence.splitlines()[0] == "Traceback (most recent call last):"
    assert error.evidence.splitlines()[-1] == "RuntimeError: injected into rank 3"
    assert describe_failure(error).splitlines()[1] == (
        f"ROOT CAUSE  {error.node}, rank 3 (node rank 1, local rank 1), first of 4"
    )


async def test_workers_that_ignore_term_in_sessions_of_their_own(
    sshd_nodes: Sequence[SshdNode], workspace: Workspace, pool: Pool
) -> None:
    """F8, F13."""
    grace_s = 1.0
    launcher = Torchrun("stubborn.py", nproc_per_node=1, python=PYTHON)
    launch = await fan_out(
        [sshd.node for sshd in sshd_nodes], workspace, launcher, SystemEnv(), grace_s=grace_s, pool=pool
    )
    report = await wait_launch(launch, pool=pool)
    files = [sshd.home / "project" / f"pids-{rank}" for rank, sshd in enumerate(sshd_nodes)]
    pids = [int(word) for file in files for word in file.read_text().split()]
    assert len(pids) == 12
    assert not [pid for pid in pids if is_alive(pid)]
    error = failure_of(report)
    assert error is not None
    assert (error.node_rank, error.status) == (3, 1)
    assert "rank 3 (status 9)" in error.message
    assert [outcome.state for outcome in report] == ["cancelled", "cancelled", "cancelled", "failed"]
