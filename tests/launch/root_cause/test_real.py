"""Ring 4: real torchrun and plain ranks that fail in every known way; the report names the cause each time."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import wait_launch
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.values.errors import LaunchFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.failing import CASES, OUT_OF_MEMORY, SYMPTOM_FIRST, WAIT, Case
from tests.support.tools import need_root, need_torch

MEMORY_CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def project(project: Path) -> Path:
    """All the failing programs."""
    for name, case in CASES.items():
        if case.program is not None:
            (project / f"{name}.py").write_text(case.program)
    return project


async def deployed(pool: Pool, nodes: Sequence[SshdNode], project: Path) -> tuple[Deployment, ...]:
    """The programs on the nodes."""
    return (await deploy_all([sshd.node for sshd in nodes], Workspace(project), SystemEnv(), pool=pool)).unwrap()


async def failure(pool: Pool, deployments: Sequence[Deployment], launcher: Launcher) -> LaunchFailed:
    """What is said of a launch that fails."""
    launch = await start_launch(pool, deployments, launcher, grace_s=1)
    error = failure_of(await wait_launch(launch, pool=pool))
    assert error is not None
    return error


def wrong(name: str, case: Case, error: LaunchFailed) -> list[str]:
    """What is wrong with what was said."""
    rank = 0 if name in ("imports", "missing", "syntax") else 1
    said = f"{name}: {describe_failure(error)}\nlog: {error.log}"
    found = []
    if rank and error.rank != 1:
        found.append("another rank")
    if case.error != error.cause and case.program is not None:
        found.append(f"the error {error.cause!r}")
    if f"({case.exit_code})" not in error.message:
        found.append("the exit code")
    if case.frames and case.frames != error.frames:
        found.append(f"the frames {error.frames}")
    if case.evidence not in error.evidence:
        found.append("the evidence")
    if case.hint not in error.hint:
        found.append("the hint")
    if not error.log.endswith(f"/{error.local_rank}/stderr.log") and name not in ("exits", "killed"):
        found.append("the log")
    return [f"wrong: {', '.join(found)} of {said}"] if found else []


@pytest.mark.parametrize("kind", ["torchrun", "ranks"])
@pytest.mark.long
async def test_f13_every_way_to_fail(sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool, kind: str) -> None:
    """Each on a node of its own, two ranks a node."""
    if kind == "torchrun":
        need_torch()
    deployments = await deployed(pool, sshd_nodes, project)
    cases = [(name, case) for name, case in CASES.items() if kind == "torchrun" or name != "recorded"]
    bad: list[str] = []

    async def work(deployment: Deployment) -> None:
        while cases:
            name, case = cases.pop()
            if kind == "torchrun":
                launcher: Launcher = Torchrun(f"{name}.py", nproc_per_node=2, python=sys.executable)
            else:
                launcher = Ranks(f"{sys.executable} {name}.py", nproc_per_node=2)
            bad.extend(wrong(name, case, await failure(pool, [deployment], launcher)))

    async with anyio.create_task_group() as group:
        for deployment in deployments:
            group.start_soon(work, deployment)
    assert not bad, "\n".join(bad)


async def test_f13_the_symptom_of_another_node_is_logged_first(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool
) -> None:
    """Node 0 has ended, and made us stop the rest, before the rank that raised has."""
    need_torch()
    (project / "train.py").write_text(SYMPTOM_FIRST)
    deployments = await deployed(pool, sshd_nodes[:2], project)
    error = await failure(pool, deployments, Torchrun("train.py", nproc_per_node=1, python=sys.executable))
    assert (error.node_rank, error.cause) == (1, "RuntimeError: the real cause"), describe_failure(error)
    (consequence,) = error.consequences
    # Whether it ends by its error or by our TERM, which follows at once, is chance.
    assert re.search("(exited 1|died of SIGTERM): (Connection (closed|reset) by peer|Broken pipe)", consequence)


@pytest.fixture
def memory_cgroups() -> None:
    """A kernel whose memory cgroups can be made, which a node's rank does for itself."""
    need_root()
    probe = MEMORY_CGROUPS / f"asyncdeploy-probe-{os.getpid()}"
    try:
        probe.mkdir()
        made = (probe / "memory.limit_in_bytes").exists()
        probe.rmdir()
    except OSError:
        made = False
    if not made:
        pytest.skip("needs memory cgroups (version 1) that can be made")


@pytest.mark.usefixtures("memory_cgroups")
async def test_f4_a_rank_that_is_killed_for_memory(sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool) -> None:
    (project / "hoard.py").write_text(WAIT + OUT_OF_MEMORY)
    deployments = await deployed(pool, sshd_nodes[:2], project)
    launcher = Ranks(f"{sys.executable} hoard.py")
    try:
        error = await failure(pool, deployments, launcher)
    finally:
        Path((sshd_nodes[1].home / "project" / "cgroup").read_text()).rmdir()
    assert (error.node_rank, error.rank) == (1, 1)
    assert "(SIGKILL)" in error.message
    assert "the kernel killed" in error.hint
    assert "memory" in error.hint
