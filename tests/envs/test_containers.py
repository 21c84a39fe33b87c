"""What runs in a container has what it has outside: its launch's files, a name, what was pushed. docker and podman."""

import getpass
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import deploy_project, run_in_project
from asyncdeploy.envs.docker import DockerEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.fleet.collect import collect_logs
from asyncdeploy.fleet.launch import diagnose_launch, fan_out, stop_launch, wait_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.run.jobs import read_log
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed, LaunchFailed
from asyncdeploy.values.texts import sh_line
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.docker import IMAGE, LIMITS, PYTHON_MOUNTS, docker_daemon, own_podman
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.secrecy import sightings_of
from tests.support.tools import need_torch

PATH = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
FAILS = """\
import os, time
print("rank", os.environ["RANK"], flush=True)
if os.environ["RANK"] == "1":
    raise ValueError("boom inside")
time.sleep(60)
"""
WAITS = """\
import time

def waits():
    print("up", flush=True)
    time.sleep(600)

waits()
"""


@attrs.frozen
class Engine:
    """An engine, and two nodes that have it."""

    nodes: tuple[SshdNode, ...]
    env: DockerEnv


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each of the two."""
    with ExitStack() as stack:
        tool = stack.enter_context(docker_daemon() if request.param == "docker" else own_podman())
        bed = SshdBed()
        stack.callback(bed.close)
        config = {"SetEnv": " ".join(f"{name}={value}" for name, value in {**tool.env, "NCCL_TEST": "fabric"}.items())}
        nodes = tuple(bed.start(f"{request.param}{number}", config=config) for number in range(2))
        yield Engine(nodes, DockerEnv(IMAGE, engine=request.param, mounts=PYTHON_MOUNTS, ulimits=LIMITS))


@pytest.fixture
def sshd(engine: Engine) -> SshdNode:
    """The first node."""
    return engine.nodes[0]


@pytest.fixture
def workspace(project: Path, tmp_path: Path) -> Workspace:
    (project / "fails.py").write_text(FAILS)
    return Workspace(project, remote_path=f"~/{tmp_path.name}")


async def test_e5_ranks_have_their_launch_s_files(
    engine: Engine, pool: Pool, workspace: Workspace, tmp_path: Path
) -> None:
    nodes = [each.node for each in engine.nodes]
    line = 'python3 -c \'import os; print("I am", os.environ["RANK"], os.path.exists("/bin/busybox"))\''
    launch = await fan_out(nodes, workspace, Ranks(Command(line, env=PATH), nproc_per_node=2), engine.env, pool=pool)
    (await wait_launch(launch, pool=pool)).unwrap()
    (await collect_logs(launch, tmp_path / "logs", pool=pool)).unwrap()
    logs = sorted(path.read_text() for path in (tmp_path / "logs").rglob("stdout.log"))
    assert logs == [f"I am {rank} True\n" for rank in range(4)]


@pytest.mark.parametrize("launcher", ["ranks", "torchrun"])
async def test_e5_a_rank_s_exception_is_noted_inside(
    engine: Engine, pool: Pool, workspace: Workspace, tmp_path: Path, launcher: str
) -> None:
    nodes = [each.node for each in engine.nodes]
    if launcher == "torchrun":
        need_torch()
        started = await fan_out(
            nodes, workspace, Torchrun("fails.py", nproc_per_node=1, env=PATH), engine.env, pool=pool
        )
    else:
        started = await fan_out(nodes, workspace, Ranks(Command("python3 fails.py", env=PATH)), engine.env, pool=pool)
    report = await wait_launch(started, pool=pool)
    (error,) = (outcome.error for outcome in report if isinstance(outcome.error, LaunchFailed))
    assert "ValueError: boom inside" in describe_failure(error)
    await collect_logs(started, tmp_path / "logs", pool=pool)
    assert sorted(path.read_text() for path in (tmp_path / "logs").rglob("stdout.log")) == ["rank 0\n", "rank 1\n"]


async def test_l15_ranks_in_a_container_are_ranks_of_the_job(engine: Engine, workspace: Workspace, pool: Pool) -> None:
    """They are no children of its supervisor's: the engine has started them."""
    (workspace.path / "waits.py").write_text(WAITS)
    launcher = Ranks(Command("python3 waits.py", env=PATH), nproc_per_node=2)
    launch = await fan_out([engine.nodes[0].node], workspace, launcher, engine.env, pool=pool)
    try:
        with anyio.fail_after(60):
            while (await read_log(pool.at(launch.jobs[0].node), launch.jobs[0])).count("up\n") < 2:
                await anyio.sleep(0.05)
        found = await diagnose_launch(launch, pool=pool)
        assert [(each.rank, each.source) for each in found.ranks] == [(0, "faulthandler"), (1, "faulthandler")]
        assert all("waits.py" in each.place for each in found.ranks)
    finally:
        await stop_launch(launch, pool=pool)


async def test_e6_who_runs_has_a_name_and_the_node_s_network(
    engine: Engine, sshd: SshdNode, pool: Pool, workspace: Workspace
) -> None:
    deployed = await deploy_project(pool, sshd.node, workspace, engine.env)
    code = "import getpass, os; print(getpass.getuser(), os.environ['LOGNAME'], os.environ['NCCL_TEST'])"
    done = await run_in_project(pool, deployed, attrs.evolve(Command.of("python3", "-c", code), env=PATH))
    assert done.check().text == f"{getpass.getuser()} {getpass.getuser()} fabric"


async def test_e7_an_image_holds_what_was_pushed_and_nothing_that_lies_there(
    engine: Engine, sshd: SshdNode, pool: Pool, workspace: Workspace
) -> None:
    odd = ["-dash", "back\\slash", "it's", "sub/deep/er.txt", "white space", ".hidden"]
    for name in odd:
        (workspace.path / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.path / name).write_text(name)
    (workspace.path / "link").symlink_to("sub/deep")
    (workspace.path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY . /inside\n")
    site = sshd.home / workspace.remote_path.removeprefix("~/")  # type: ignore[union-attr]
    first = await deploy_project(pool, sshd.node, workspace, engine.env)
    for left in ("results.pt", "sub/log", ".asyncdeploy/home/token", "token"):
        (site / left).parent.mkdir(parents=True, exist_ok=True)
        (site / left).write_text("secret")
    env = attrs.evolve(engine.env, image=None, dockerfile="Dockerfile")
    deployed = await deploy_project(pool, sshd.node, workspace, env)
    assert deployed.site.path == first.site.path
    found = (await run_in_project(pool, deployed, "cd /inside; find . -type f; readlink link")).check().text
    assert sorted(found.splitlines()) == sorted(
        [*(f"./{name}" for name in (*odd, "Dockerfile", "fails.py")), "sub/deep"]
    )
    assert not (site / ".asyncdeploy" / "context").exists()


def test_e8_our_folder_is_ours_alone_whatever_the_login_s_umask(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    line = sh_line("envs/docker_run.sh", "true", "image", str(tmp_path / "site"), str(tmp_path), "", "true")
    subprocess.run(["sh", "-c", f"umask 022; {line}"], env={**os.environ, "HOME": str(tmp_path)}, check=True)
    for made in (".asyncdeploy", "site/.asyncdeploy", "site/.asyncdeploy/home"):
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o700


async def test_e11_a_build_s_secrets_are_in_no_layer_and_no_argument(
    engine: Engine, sshd: SshdNode, pool: Pool, workspace: Workspace
) -> None:
    (workspace.path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nRUN --mount=type=secret,id=TOKEN sha256sum </run/secrets/TOKEN >/sum && sleep 0.3\n"
    )
    canary = "canary-2d0e9f41"
    env = attrs.evolve(engine.env, image=None, dockerfile="Dockerfile", secrets={"TOKEN": canary})
    with sightings_of(canary, [sshd.home]) as sightings:
        if (
            engine.env.engine == "docker"
            and subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode
        ):
            with pytest.raises(BootstrapFailed) as caught:
                await deploy_project(pool, sshd.node, workspace, env)
            assert "buildx" in caught.value.hint
            return
        deployed = await deploy_project(pool, sshd.node, workspace, env)
    found = (await run_in_project(pool, deployed, "cut -c1-64 /sum; ls /run/secrets 2>&1; env")).check().text
    assert found.startswith(hashlib.sha256(canary.encode()).hexdigest())
    assert sightings.places == set()
    assert canary not in found + repr(env) + json.dumps(deployed.to_dict())


async def test_e11_the_secrets_of_an_environment_inside_reach_its_steps(
    engine: Engine, sshd: SshdNode, pool: Pool, workspace: Workspace
) -> None:
    canary = "canary-77c1a0b3"
    pre = ("export UV_OFFLINE=1", "export UV_PYTHON=/usr/bin/python3")
    told = 'test "$(printf %s "$TOKEN" | sha256sum | cut -c1-64)" = ' + hashlib.sha256(canary.encode()).hexdigest()
    inner = UvEnv(pre=pre, post=(told, "sleep 0.3"), secrets={"TOKEN": canary})
    with sightings_of(canary, [sshd.home]) as sightings:
        deployed = await deploy_project(pool, sshd.node, workspace, attrs.evolve(engine.env, env=inner))
        done = await run_in_project(pool, deployed, "env")
    assert canary not in done.check().text
    # podman and docker's containerd keep a container's variables in databases of their own, while there is one.
    places = [place for place in sightings.places if "/data/containerd/" not in place]
    assert not [place for place in places if "mode 600" not in place or str(sshd.home) in place]
