"""Ring 4: nothing but a recorded exit status 0 is a success, through whichever function one asks."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_and_run
from asyncdeploy.fleet.jobs import start_all
from asyncdeploy.fleet.launch import fan_out, wait_launch
from asyncdeploy.fleet.run import run_all
from asyncdeploy.launch.gang.attached import run_launch
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import FleetError, Report
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import JobStatus
from asyncdeploy.run.jobs import start_job, wait_job
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import ConnectionLost, DeployError
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.launches import Lines
from tests.support.waiting import eventually

Found = Completed | JobStatus | Report[Completed] | Report[JobStatus]
Ask = Callable[["Fleet", Command], Awaitable[Found]]


@attrs.frozen
class Fleet:
    """Two nodes on which a project stands."""

    pool: Pool
    nodes: tuple[Node, ...]
    workspace: Workspace
    deployments: tuple[Deployment, ...]


@pytest.fixture
async def fleet(sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool) -> Fleet:
    """Two of the bed's nodes."""
    workspace, nodes = Workspace(project), tuple(sshd.node for sshd in sshd_nodes[:2])
    deployments = [await deploy_project(pool, node, workspace, SystemEnv()) for node in nodes]
    return Fleet(pool, nodes, workspace, tuple(deployments))


async def by_run_command(fleet: Fleet, command: Command) -> Found:
    return await run_command(fleet.pool.at(fleet.nodes[1]), command)


async def by_run_in_project(fleet: Fleet, command: Command) -> Found:
    return await run_in_project(fleet.pool, fleet.deployments[1], command)


async def by_run_all(fleet: Fleet, command: Command) -> Found:
    return await run_all(fleet.nodes, command, pool=fleet.pool)


async def by_deploy_and_run(fleet: Fleet, command: Command) -> Found:
    return await deploy_and_run(fleet.nodes, fleet.workspace, command, SystemEnv(), pool=fleet.pool)


async def by_run_launch(fleet: Fleet, command: Command) -> Found:
    return await run_launch(fleet.pool, fleet.deployments, Lines(("exit 0", command.line)))


async def by_start_job(fleet: Fleet, command: Command) -> Found:
    remote = fleet.pool.at(fleet.nodes[1])
    return await wait_job(remote, await start_job(remote, command, name="truth"))


async def by_start_in_project(fleet: Fleet, command: Command) -> Found:
    job = await start_in_project(fleet.pool, fleet.deployments[1], command, name="truth")
    return await wait_job(fleet.pool.at(job.node), job)


async def by_start_all(fleet: Fleet, command: Command) -> Found:
    jobs = (await start_all(fleet.deployments, command, name="truth", pool=fleet.pool)).unwrap()
    ends = [await wait_job(fleet.pool.at(job.node), job) for job in jobs]
    assert ends[0] == attrs.evolve(ends[1], job=ends[0].job, started_at=ends[0].started_at, ended_at=ends[0].ended_at)
    return ends[0]


async def by_fan_out(fleet: Fleet, command: Command) -> Found:
    launcher = Lines(("exit 0", command.line))
    launch = await fan_out(fleet.nodes, fleet.workspace, launcher, SystemEnv(), grace_s=0.2, pool=fleet.pool)
    return await wait_launch(launch, pool=fleet.pool)


ATTACHED = (by_run_command, by_run_in_project, by_run_all, by_deploy_and_run, by_run_launch)
DETACHED = (by_start_job, by_start_in_project, by_start_all, by_fan_out)


def raise_it(found: Found) -> None:
    """What a person does who wants an exception for a failure."""
    if isinstance(found, Report):
        found.unwrap()
    elif error := found.failure():
        raise error


def status_of(value: Completed | JobStatus | None) -> int | None:
    """The exit status as it was recorded."""
    assert value is not None
    return value.status if isinstance(value, Completed) else value.exit_status


def on_second_node(fleet: Fleet, found: Found) -> Completed | JobStatus:
    """What became of the command on the node where all the functions run it."""
    if not isinstance(found, Report):
        return found
    assert len(found) == 2
    value = found[fleet.nodes[1].name].value
    assert value is not None
    return value


@pytest.mark.parametrize("line,status,killed", [("exit 3", 3, None), ("kill -KILL $$", None, "KILL")])
@pytest.mark.parametrize("ask", [*ATTACHED, *DETACHED])
async def test_c2_a_failure_is_a_failure_everywhere(
    fleet: Fleet, ask: Ask, line: str, status: int | None, killed: str | None
) -> None:
    found = await ask(fleet, Command(line))
    value = on_second_node(fleet, found)
    assert (found.ok, value.ok, status_of(value), value.signal) == (False, False, status, killed)
    if isinstance(found, Report):
        assert found[fleet.nodes[1].name].state == "failed"
    with pytest.raises((DeployError, FleetError)) as caught:
        raise_it(found)
    assert (f"exited {status}" if killed is None else f"died of SIG{killed}") in str(caught.value)


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
async def test_the_cause_comes_before_those_that_ended_because_of_it(fleet: Fleet, *, detached: bool) -> None:
    lines = Lines(("sleep 999", "sleep 0.2; exit 3"))
    if detached:
        launch = await fan_out(fleet.nodes, fleet.workspace, lines, SystemEnv(), grace_s=0.2, pool=fleet.pool)
        report: Report[Any] = await wait_launch(launch, pool=fleet.pool)
    else:
        report = await run_launch(fleet.pool, fleet.deployments, lines)
    assert [outcome.state for outcome in report] == ["cancelled", "failed"]
    said = rf"1 of 2 nodes failed, 1 stopped because of it: {fleet.nodes[1].name}: .* exited 3"
    with pytest.raises(FleetError, match=said) as caught:
        report.unwrap()
    assert caught.value.exceptions[0] is report.outcomes[1].error


@pytest.mark.parametrize("ask", [*ATTACHED, *DETACHED])
async def test_success_is_a_recorded_0(fleet: Fleet, ask: Ask) -> None:
    found = await ask(fleet, Command("exit 0"))
    value = on_second_node(fleet, found)
    assert (found.ok, value.ok, status_of(value), value.signal) == (True, True, 0, None)
    raise_it(found)


@pytest.mark.parametrize("ask", ATTACHED)
async def test_c1_a_lost_line_is_unknown(fleet: Fleet, sshd_nodes: Sequence[SshdNode], ask: Ask) -> None:
    """The command would end with 0; the other node's result is there nevertheless."""
    first, second = sshd_nodes[:2]
    (first.home / "go").touch()
    async with asyncio.TaskGroup() as group:  # which ends the run also where something before its end fails
        command = Command("touch ~/began; until [ -e ~/go ]; do sleep 0.02; done")
        asking = group.create_task(asked(ask, fleet, command))
        await eventually((second.home / "began").exists)
        second.end_sessions(signal.SIGKILL)
    found = asking.result()
    if isinstance(found, Report):
        assert not found.ok
        outcome = found[second.node.name]
        assert (outcome.state, outcome.ok, outcome.value) == ("unknown", False, None)
        assert found[first.node.name].state in ("ok", "cancelled")
        with pytest.raises(FleetError) as caught:
            found.unwrap()
        assert caught.value.subgroup(ConnectionLost) is not None
        found = outcome.error
    assert isinstance(found, ConnectionLost)
    assert found.outcome == "unknown"


async def asked(ask: Ask, fleet: Fleet, command: Command) -> Found | DeployError | None:
    """What comes of it, an error too."""
    try:
        return await ask(fleet, command)
    except DeployError as error:
        return error
