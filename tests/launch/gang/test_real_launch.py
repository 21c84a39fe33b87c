"""Ring 4: ranks that hide and ignore TERM are ended with their launch, attached and detached, also by Ctrl-C."""

import asyncio
import json
import signal
from collections.abc import Sequence

import anyio
import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import wait_launch
from asyncdeploy.launch.gang.attached import run_launch
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.placement import Placement
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.client import client
from tests.support.beds.sshd_node import SshdNode
from tests.support.launches import Lines
from tests.support.programs.hiding import alive, all_hidden, hiding_line
from tests.support.waiting import BACK_S

WAITS = "until [ -e go ]; do sleep 0.02; done; exit 7"


@attrs.frozen
class Limited(Lines):
    """Lines with a time limit."""

    timeout_s: float = 1.0

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        return tuple(attrs.evolve(command, timeout_s=self.timeout_s) for command in super().commands(placement))


@pytest.fixture
async def deployments(sshd_nodes: Sequence[SshdNode], workspace: Workspace, pool: Pool) -> tuple[Deployment, ...]:
    """The project on three of the nodes."""
    nodes = [sshd.node for sshd in sshd_nodes[:3]]
    return (await deploy_all(nodes, workspace, SystemEnv(), pool=pool)).unwrap()


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "detached"])
async def test_the_others_end_when_one_fails(
    sshd_nodes: Sequence[SshdNode], pool: Pool, deployments: tuple[Deployment, ...], *, attached: bool
) -> None:
    """F8, F13."""
    lines = Lines((hiding_line(), hiding_line(), WAITS))
    if attached:
        ending = asyncio.create_task(run_launch(pool, deployments, lines))
    else:
        launch = await start_launch(pool, deployments, lines, grace_s=0.5)
        ending = asyncio.create_task(wait_launch(launch, pool=pool))
    seen = await all_hidden(*(sshd.home / "project" for sshd in sshd_nodes[:2]))
    (sshd_nodes[2].home / "project" / "go").touch()
    report = await ending
    assert alive(seen) == []
    assert [outcome.state for outcome in report] == ["cancelled", "cancelled", "failed"]
    assert "exited 7" in str(report[sshd_nodes[2].node.name].error)


async def test_a_rank_that_runs_too_long_is_the_cause(pool: Pool, deployments: tuple[Deployment, ...]) -> None:
    """Its status is 0, which makes no success of it."""
    launcher = Limited(("trap 'exit 0' TERM; while :; do sleep 0.02; done",), timeout_s=1)
    launch = await start_launch(pool, deployments[:1], launcher)
    report = await wait_launch(launch, pool=pool)
    (outcome,) = report
    assert outcome.value is not None
    assert (outcome.state, outcome.value.exit_status, outcome.value.timed_out) == ("failed", 0, True)
    error = failure_of(report)
    assert error is not None
    assert "ran longer than its timeout_s and was ended: it exited 0" in error.message


async def test_ctrl_c_ends_a_command_on_all_nodes(sshd_nodes: Sequence[SshdNode]) -> None:
    """G1."""
    work = "await run_all([Node.from_dict(each) for each in json.loads(args[0])], args[1], pool=pool)"
    nodes = json.dumps([sshd.node.to_dict() for sshd in sshd_nodes])
    async with client(sshd_nodes[0], work, nodes, hiding_line()) as process:
        seen = await all_hidden(*(sshd.home for sshd in sshd_nodes))
        process.send_signal(signal.SIGINT)
        with anyio.fail_after(BACK_S):
            await process.communicate()
        assert alive(seen) == []
