"""DockerEnv against a real docker daemon of our own, on real sshd nodes: what ends a run ends its container."""

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.docker import DockerEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.launch import fan_out, wait_launch
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.run.jobs import job_status, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed, CommandTimeout
from asyncdeploy.values.events import Event
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.client import client
from tests.support.beds.docker import IMAGE, PYTHON_MOUNTS, Daemon, docker_daemon
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import Account, SshdNode
from tests.support.envs import write_project
from tests.support.events import details
from tests.support.tools import need_torch
from tests.support.waiting import eventually

NO_ULIMITS = ("nofile=1024:1024",)
"""A virtual machine may forbid even its root to raise the default's limits."""
RUN = "await run_command(remote, Command.from_dict(json.loads(args[0])))"
SLEEPS = "trap '' TERM; echo begun; while :; do sleep 0.1; done"
ENDS_LATE = "trap 'sleep 0.3; echo saved >saved; exit 0' TERM; echo begun; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for all tests here."""
    with docker_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def bed(daemon: Daemon) -> Iterator[tuple[SshdNode, ...]]:
    """Three nodes that find the daemon in their environment; the last one is a plain user's."""
    bed = SshdBed()
    config = {"SetEnv": f"DOCKER_HOST={daemon.env['DOCKER_HOST']}"}
    user = Account("addocker", random.choice(range(61_000, 64_000)))
    try:
        first, second = bed.start("d0", config=config), bed.start("d1", config=config)
        yield first, second, bed.start("d2", account=user, config=config)
    finally:
        bed.close()


@pytest.fixture(scope="module")
def sshd(bed: tuple[SshdNode, ...]) -> SshdNode:
    """The first of them."""
    return bed[0]


@pytest.fixture
def workspace(project: Path, tmp_path: Path) -> Workspace:
    """A project with one file, for a folder of this test's own on the nodes."""
    (project / "hello.txt").write_text("hello\n")
    return Workspace(project, remote_path=f"~/{tmp_path.name}")


@pytest.fixture
async def deployed(bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace) -> Deployment:
    """The project on the first node."""
    return await deploy_project(pool, bed[0].node, workspace, DockerEnv(IMAGE, ulimits=NO_ULIMITS))


async def gone(daemon: Daemon) -> None:
    """Wait until no container is left."""
    await eventually(lambda: not daemon.containers(), "no container is left")


async def test_a_command_runs_inside_with_the_workspace_and_exact_words(pool: Pool, deployed: Deployment) -> None:
    awkward = "a b'c\"d$e\n*\\"
    command = attrs.evolve(
        Command.of("printf", "%s|", awkward, "", "-x"), env={"PLAIN": awkward}, secrets={"KEY": "s e'c"}
    )
    assert (await run_in_project(pool, deployed, command)).check().stdout.decode() == f"{awkward}||-x|"
    line = 'cat; pwd; cat hello.txt; ls /bin/busybox; echo "$PLAIN/$KEY"; hostname >made; echo err >&2; exit 3'
    done = await run_in_project(pool, deployed, attrs.evolve(command, line=line, stdin="in\n"))
    assert done.status == 3
    assert done.stdout.decode() == f"in\n{deployed.site.workdir}\nhello\n/bin/busybox\n{awkward}/s e'c\n"
    assert done.stderr == b"err\n"
    assert (Path(deployed.site.path) / "made").exists()


async def test_a_signal_inside_is_told_as_a_shell_tells_it(pool: Pool, deployed: Deployment, daemon: Daemon) -> None:
    assert (await run_in_project(pool, deployed, "kill -KILL $$")).status == 137
    await gone(daemon)


async def test_a_timeout_ends_the_container(pool: Pool, deployed: Deployment, daemon: Daemon) -> None:
    with pytest.raises(CommandTimeout):
        await run_in_project(pool, deployed, Command(SLEEPS, timeout_s=1.0))
    await gone(daemon)


async def test_a_cancelled_run_has_its_grace_and_ends(pool: Pool, deployed: Deployment, daemon: Daemon) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run_in_project, pool, deployed, ENDS_LATE)
        await eventually(lambda: daemon.run("ps", "-q") and "begun" in _logs(daemon), "it runs")
        group.cancel_scope.cancel()
    await gone(daemon)
    assert (Path(deployed.site.path) / "saved").read_text() == "saved\n"


def _logs(daemon: Daemon) -> str:
    return "".join(daemon.run("logs", name) for name in daemon.containers())


async def test_our_own_death_ends_the_container(
    bed: tuple[SshdNode, ...], deployed: Deployment, daemon: Daemon
) -> None:
    entered = deployed.enter(Command(SLEEPS))
    async with client(bed[0], RUN, json.dumps(entered.to_dict())) as process:
        await eventually(lambda: daemon.run("ps", "-q"), "it runs")
        process.send_signal(signal.SIGKILL)
    await gone(daemon)


async def test_a_client_killed_while_the_container_is_made_leaves_none(
    bed: tuple[SshdNode, ...], deployed: Deployment, daemon: Daemon
) -> None:
    entered = deployed.enter(Command(SLEEPS))
    for _ in range(4):
        async with client(bed[0], RUN, json.dumps(entered.to_dict())) as process:
            await eventually(lambda: _is_starting(bed[0]), "docker was started")
            process.send_signal(signal.SIGKILL)
        await eventually(lambda: "asyncdeploy-docker" not in str(bed[0].processes()), "the leash is done")
        await gone(daemon)


def _is_starting(sshd: SshdNode) -> bool:
    return any("docker run --rm --init -i --name" in line for line in sshd.processes().values())


async def test_a_job_runs_in_a_container_named_after_it_and_is_stopped(
    pool: Pool, deployed: Deployment, daemon: Daemon
) -> None:
    job = await start_in_project(pool, deployed, SLEEPS, name="train")
    remote = pool.at(deployed.node)
    await eventually(lambda: daemon.containers() == [f"asyncdeploy-{job.id}"], "its container runs")
    assert (await job_status(remote, job)).state == "running"
    status = await stop_job(remote, job, grace_s=0.3)
    assert status.ended
    assert not status.survivors
    await gone(daemon)
    done = await wait_job(remote, await start_in_project(pool, deployed, "exit 4", name="train"))
    assert done.exit_status == 4


async def test_h1_a_secret_is_in_no_argument_list(pool: Pool, deployed: Deployment, daemon: Daemon) -> None:
    command = Command("echo begun; until [ -e go ]; do sleep 0.05; done", secrets={"TOKEN": "canary-7f3a"})
    async with anyio.create_task_group() as group:
        group.start_soon(run_in_project, pool, deployed, command)
        await eventually(lambda: daemon.run("ps", "-q") and "begun" in _logs(daemon), "it runs")
        seen = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        (Path(deployed.site.path) / "go").touch()
    assert "docker run" in seen
    assert "canary" not in seen
    assert "canary" not in repr(deployed.enter(command))


async def test_a_plain_users_results_are_his(bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace) -> None:
    deployed = await deploy_project(pool, bed[2].node, workspace, DockerEnv(IMAGE, ulimits=NO_ULIMITS))
    line = 'id -u >who; mkdir out; echo hi >out/file; echo x >"$HOME/home-file"'
    (await run_in_project(pool, deployed, line)).check()
    uid = bed[2].account.uid
    site = Path(deployed.site.path)
    assert (site / "who").read_text() == f"{uid}\n"
    assert {(site / name).stat().st_uid for name in ("who", "out", "out/file")} == {uid}


async def test_an_image_is_built_from_the_workspace_and_kept_while_it_is_the_same(
    bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace, daemon: Daemon
) -> None:
    (workspace.path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY hello.txt /inside\n")
    env = DockerEnv(dockerfile="Dockerfile", ulimits=NO_ULIMITS)
    seen = []
    async with Pool(host_keys=HostKeys.strict(bed[0].known_hosts), observer=seen.append) as watched:
        deployed = await deploy_project(watched, bed[1].node, workspace, env)
        assert (await run_in_project(watched, deployed, "cat /inside")).text == "hello"
        again = await deploy_project(watched, bed[1].node, workspace, env)
        assert env.image_of(again.site) == env.image_of(deployed.site)
        assert details(seen, "env")[-1] == "= unchanged"
        (workspace.path / "hello.txt").write_text("changed\n")
        changed = await deploy_project(watched, bed[1].node, workspace, env)
        assert (await run_in_project(watched, changed, "cat /inside")).text == "changed"
    assert daemon.run("images", "-q", "--filter", f"label=asyncdeploy.site={changed.site.path}").count("\n") == 0


async def test_an_archive_is_sent_and_loaded(
    bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace, daemon: Daemon, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    daemon.run("save", "-o", str(archive), IMAGE)
    deployed = await deploy_project(pool, bed[0].node, workspace, DockerEnv(archive=archive, ulimits=NO_ULIMITS))
    assert (await run_in_project(pool, deployed, "cat hello.txt")).text == "hello"


async def test_torchrun_on_two_nodes_in_containers(
    bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace, tmp_path: Path
) -> None:
    need_torch()
    (workspace.path / "train.py").write_text(
        "import os, pathlib, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "value = torch.ones(1)\n"
        "dist.all_reduce(value)\n"
        "assert pathlib.Path('/bin/busybox').exists(), 'inside'\n"
        "pathlib.Path('out').mkdir(exist_ok=True)\n"
        "pathlib.Path(f'out/{dist.get_rank()}').write_text(str(value.item()))\n"
        "dist.destroy_process_group()\n"
    )
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = DockerEnv(IMAGE, mounts=PYTHON_MOUNTS, ulimits=NO_ULIMITS)
    nodes = [node.node for node in bed[:2]]
    launch = await fan_out(nodes, workspace, Torchrun("train.py", nproc_per_node=1, env={"PATH": path}), env, pool=pool)
    report = await wait_launch(launch, pool=pool)
    assert report.ok, [outcome.error for outcome in report]
    await collect_all(launch, "out", tmp_path / "home", pool=pool)
    assert sorted(file.read_text() for file in (tmp_path / "home").rglob("[01]")) == ["2.0", "2.0"]


async def test_a_uv_environment_inside(
    bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace, daemon: Daemon
) -> None:
    write_project(workspace.path, ("base-lib",), train=("train-lib",))
    inner = UvEnv("train", pre=("export UV_OFFLINE=1", "export UV_PYTHON=/usr/bin/python3"))
    env = DockerEnv(IMAGE, mounts=PYTHON_MOUNTS, ulimits=NO_ULIMITS, env=inner)
    deployment = await deploy_project(pool, bed[0].node, workspace, env)
    assert deployment.built is not None
    assert deployment.built.packages == 2
    code = "import base_lib, train_lib, os, sys; print(sys.prefix, os.path.exists('/.dockerenv'))"
    done = await run_in_project(pool, deployment, Command.of("python", "-c", code))
    assert done.check().text.split() == [str(Path(deployment.site.path, ".venv").readlink()), "True"]
    assert Deployment.from_dict(json.loads(json.dumps(deployment.to_dict()))) == deployment
    again: list[Event] = []
    async with Pool(host_keys=HostKeys.strict(bed[0].known_hosts), observer=again.append) as other:
        await deploy_project(other, bed[0].node, workspace, env)
    assert details(again, "env") == ["= unchanged"]
    write_project(workspace.path, ("base-lib",), train=("train-lib",), more=("more-lib",))
    (workspace.path / "wheels" / "more_lib-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(BootstrapFailed, match="uv inside exited") as caught:
        await deploy_project(pool, bed[0].node, workspace, attrs.evolve(env, env=UvEnv("more", pre=inner.pre)))
    assert "==> uv sync" in caught.value.evidence
    assert (await run_in_project(pool, deployment, "python -c 'import train_lib'")).ok, "what stood before works"
    await gone(daemon)


async def test_a_cancelled_bootstrap_inside_leaves_no_container(
    bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace, daemon: Daemon
) -> None:
    slow = UvEnv(pre="trap '' TERM; while :; do sleep 0.1; done")
    env = DockerEnv(IMAGE, mounts=PYTHON_MOUNTS, ulimits=NO_ULIMITS, env=slow)
    task = asyncio.create_task(deploy_project(pool, bed[0].node, workspace, env))
    await eventually(daemon.containers, "a container runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(daemon)


async def test_no_daemon_is_said_with_what_to_do(bed: tuple[SshdNode, ...], pool: Pool, workspace: Workspace) -> None:
    away = workspace.path / "docker"
    away.write_text('#!/bin/sh\nexport DOCKER_HOST=unix:///nowhere/at/all\nexec docker "$@"\n')
    away.chmod(0o755)
    deployed = await deploy_project(pool, bed[0].node, workspace, DockerEnv(IMAGE, ulimits=NO_ULIMITS))
    facts = attrs.evolve(deployed.facts, tools={"docker": f"{deployed.site.path}/docker"})
    pool.at(bed[0].node).memory["facts"] = facts
    with pytest.raises(BootstrapFailed, match="reach the engine") as caught:
        await bootstrap_env(pool.at(bed[0].node), deployed.site, DockerEnv("another:1"))
    assert "UvEnv" in caught.value.hint
