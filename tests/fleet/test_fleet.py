"""Ring 3 and 4: many nodes in one call; nobody's result is lost, nothing but exit status 0 is a success."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncssh
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all, deploy_and_run
from asyncdeploy.fleet.jobs import start_all
from asyncdeploy.fleet.push import push_all
from asyncdeploy.fleet.run import run_all
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.nodes.parse import Node
from asyncdeploy.nodes.report import FleetError
from asyncdeploy.run.jobs import wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandFailed, ConnectError, JobFailed, TransferFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    """Three nodes."""
    async with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
async def pool(cluster: LocalCluster) -> AsyncIterator[Pool]:
    """The cluster's pool."""
    async with cluster.pool() as pool:
        yield pool


@pytest.fixture
def workspace(project: Path) -> Workspace:
    """A project with one file."""
    (project / "hello.txt").write_text("hello\n")
    return Workspace(project)


async def test_a_workspace_that_cannot_be_read_is_an_error_at_once_even_if_a_node_does_not_answer(
    tmp_path: Path,
) -> None:
    """Nodes are connected to while the workspace is scanned."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".git").write_text("gitdir: nowhere\n")

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        # With a key of its own: a node for which there is none fails at once, maybe before git has.
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "key")
        port = server.sockets[0].getsockname()[1]
        silent = Node("127.0.0.1", port=port, user="nobody", key_path=str(tmp_path / "key"))
        async with Pool(host_keys=HostKeys.accept_new(tmp_path / "known_hosts")) as pool:
            with pytest.raises(TransferFailed, match="git"):
                await push_all([silent], tmp_path / "project", pool=pool)


async def test_exit_3_is_a_failure_everywhere(cluster: LocalCluster, pool: Pool, workspace: Workspace) -> None:
    ran = await run_all(cluster.nodes, "exit 3", pool=pool)
    deployed_and_ran = await deploy_and_run(cluster.nodes, workspace, "exit 3", SystemEnv(), pool=pool)
    for report in (ran, deployed_and_ran):
        assert not report.ok
        for outcome in report:
            assert outcome.state == "failed"
            assert outcome.value is not None
            assert outcome.value.status == 3
            assert isinstance(outcome.error, CommandFailed)
        with pytest.raises(FleetError, match="3 of 3 nodes failed"):
            report.unwrap()
    deployments = (await deploy_all(cluster.nodes, workspace, SystemEnv(), pool=pool)).unwrap()
    jobs = (await start_all(deployments, "exit 3", name="three", pool=pool)).unwrap()
    for job in jobs:
        status = await wait_job(pool.at(job.node), job)
        assert (status.ok, status.exit_status) == (False, 3)
        assert isinstance(status.failure(), JobFailed)


async def test_a_command_may_be_a_callable_of_the_node(cluster: LocalCluster, pool: Pool, workspace: Workspace) -> None:
    report = await run_all(cluster.nodes, lambda node: Command.of("echo", f"I am {node.name}"), pool=pool)
    assert [completed.text for completed in report.unwrap()] == [f"I am {node.name}" for node in cluster.nodes]
    sweep = await deploy_and_run(
        cluster.nodes, workspace, lambda node: f"echo {node.port}; cat hello.txt", SystemEnv(), pool=pool
    )
    assert [completed.text for completed in sweep.unwrap()] == [f"{node.port}\nhello" for node in cluster.nodes]


async def test_results_come_home_into_a_folder_a_node(
    cluster: LocalCluster, pool: Pool, workspace: Workspace, tmp_path: Path
) -> None:
    sites = (await push_all(cluster.nodes, workspace, pool=pool)).unwrap()
    assert len({site.digest for site in sites}) == 1
    deployments = (await deploy_all(cluster.nodes, workspace, SystemEnv(), pool=pool)).unwrap()
    for number, node in enumerate(cluster.nodes):
        folder = cluster.home(node) / "project" / "out"
        folder.mkdir()
        (folder / "number").write_text(str(number))
    report = await collect_all(deployments, "out", tmp_path / "home", pool=pool)
    assert report.ok
    assert [(tmp_path / "home" / f"{n}-local-{n}" / "number").read_text() for n in range(3)] == ["0", "1", "2"]


async def test_no_deployment_is_lost_without_a_word(cluster: LocalCluster, pool: Pool, workspace: Workspace) -> None:
    report = await deploy_all(cluster.nodes, workspace, SystemEnv(), pool=pool)
    deployments = report.unwrap()
    with pytest.raises(ValueError, match="got two of local-0"):
        await start_all([*deployments, deployments[0]], "true", name="twice", pool=pool)
    with pytest.raises(ValueError, match=r"got Outcome; pass report\.unwrap\(\)"):
        await start_all(report, "true", name="report", pool=pool)  # type: ignore[arg-type]


async def test_a_dead_node_costs_the_others_nothing(sshd_nodes: Sequence[SshdNode], workspace: Workspace) -> None:
    """A22, G3."""
    nodes = [sshd.node for sshd in sshd_nodes]
    sshd_nodes[1].stop()
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        ran = await run_all(nodes, "echo alive", pool=pool)
        deployed = await deploy_and_run(nodes, workspace, "cat hello.txt", SystemEnv(), pool=pool)
    for report, text in ((ran, "alive"), (deployed, "hello")):
        assert [outcome.state for outcome in report] == ["ok", "failed", "ok", "ok"]
        assert [completed.text for completed in report.values] == [text] * 3
        error = report[nodes[1].name].error
        assert isinstance(error, ConnectError)
        assert error.reason == "refused"
