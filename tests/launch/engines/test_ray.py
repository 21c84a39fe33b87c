"""Real Ray over real sshd nodes: a driver computes on all of them, and afterwards nothing is left.

One test runs with all others. The rest takes minutes: ASYNCDEPLOY_RAY=1 runs it, and CI does.
"""

import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.docker import IMAGE, PYTHON_MOUNTS, docker_daemon
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.engines import RAY, STAYS, OtherPython, nothing_left, pids_of, python_with
from tests.support.tools import in_ci
from tests.support.waiting import eventually

# A raylet takes 5 s to start where there are cores for it, and half a minute where there are not.
pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
LONG = pytest.mark.skipif(
    not (os.environ.get("ASYNCDEPLOY_RAY") or in_ci()), reason="takes minutes; ASYNCDEPLOY_RAY=1 runs it"
)
SMALL = ad.RayCluster(cpus=1, gpus=0, object_store_gb=0.1)
SQUARES = """\
import ray
from parts import square

ray.init(log_to_driver=False)

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def where(x):
    return square(x), ray.get_runtime_context().get_node_id()

found = ray.get([where.remote(x) for x in range(4)], timeout=60)
names = sorted(node["NodeName"] for node in ray.nodes() if node["Alive"])
print(sum(value for value, _ in found), *names, flush=True)
"""
BUSY = """\
import os, ray
from parts import stay

ray.init(log_to_driver=False)
ray.get(ray.remote(num_cpus=1)(stay).remote(os.getcwd()))
"""


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> OtherPython:
    """An environment with Ray."""
    return python_with(tmp_path_factory.mktemp("ray") / "venv", RAY)


@pytest.fixture
def project(project: Path) -> Path:
    """Two drivers, and a module that their tasks come from."""
    (project / "parts.py").write_text(f"{STAYS}\n\ndef square(x):\n    return x * x\n")
    (project / "driver.py").write_text(SQUARES)
    (project / "busy.py").write_text(BUSY)
    return project


def port_of_its_workers() -> int:
    """A free port where Ray keeps ports for its workers."""
    while True:
        port = random.randrange(10_002, 20_000)
        with socket.socket() as tried:
            try:
                tried.bind(("", port))
            except OSError:
                continue
            return port


async def test_z1_a_driver_computes_on_all_nodes_and_a_busy_stop_leaves_nothing(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path, env: OtherPython
) -> None:
    """A head's port among those of its workers; a token of another cluster in the head's home."""
    sshds = sshd_nodes[:2]
    nodes = [sshd.node for sshd in sshds]
    (sshds[0].home / ".ray").mkdir()
    (sshds[0].home / ".ray" / "auth_token").write_text("of another cluster")
    launcher = ad.RayCluster(cpus=1, gpus=0, object_store_gb=0.1, master_port=port_of_its_workers())
    launch = await ad.fan_out(nodes, project, launcher, env, grace_s=5, pool=pool)
    completed = await ad.run_on_cluster(launch, "python driver.py", check=True, pool=pool)
    assert completed.text == f"14 {' '.join(sorted(node.name for node in nodes))}"
    assert launcher.token.value is not None
    for sshd in sshds:
        assert launcher.token.value not in "\n".join(sshd.processes().values())
    found = await ad.find_launch(nodes, launch.id, pool=pool)
    job = await ad.start_on_cluster(found, "python busy.py", name="busy", pool=pool)
    await eventually(
        lambda: any((sshd.home / "project" / "child").exists() for sshd in sshds), "it computes", within_s=100
    )
    began = time.monotonic()
    report = await ad.stop_launch(found, pool=pool)
    assert time.monotonic() - began < launch.grace_s + 5
    assert [outcome.state for outcome in report] == ["cancelled"] * 2
    assert (await ad.job_status(pool.at(nodes[0]), job)).stopped, "the driver was told first"
    await nothing_left(sshds, launch)


STRANGER = """\
import ray
try:
    ray.init(log_to_driver=False)
    print("let in", flush=True)
except Exception:
    print("refused", flush=True)
"""


@LONG
async def test_two_clusters_at_once_and_strangers(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path, env: OtherPython
) -> None:
    """Each is another Ray on the same host to the other."""
    (project / "stranger.py").write_text(STRANGER)
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    other = ad.RayCluster(cpus=1, gpus=0, object_store_gb=0.1, name="other")
    async with ad.ray_cluster(nodes, project, env, cluster=SMALL, pool=pool) as ray:
        async with ad.ray_cluster(nodes[:1], project, env, cluster=other, pool=pool) as second:
            assert len((await ray.run("python driver.py", check=True)).text.split()) == 1 + 2
            assert len((await second.run("python driver.py", check=True)).text.split()) == 1 + 1
        assert len((await ray.run("python driver.py", check=True)).text.split()) == 1 + 2
        for words in ("-u RAY_AUTH_TOKEN RAY_AUTH_MODE=disabled", "RAY_AUTH_TOKEN=wrong"):
            assert (await ray.run(f"env {words} python stranger.py")).text == "refused"
    await nothing_left(sshd_nodes[:2], ray.launch)


@LONG
async def test_the_driver_is_killed_and_then_the_head(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path, env: OtherPython
) -> None:
    sshds = sshd_nodes[:2]
    nodes = [sshd.node for sshd in sshds]
    async with ad.ray_cluster(nodes, project, env, cluster=SMALL, pool=pool, grace_s=1) as ray:
        job = await ray.start("exec python busy.py", name="busy")
        child = [sshd.home / "project" / "child" for sshd in sshds]
        await eventually(lambda: any(path.exists() for path in child), "it computes", within_s=100)
        for path in child:
            path.unlink(missing_ok=True)
        os.kill(pids_of(sshds[0], "python busy.py")[0], signal.SIGKILL)
        assert (await ad.wait_job(pool.at(nodes[0]), job)).signal == "KILL"
        assert (await ray.run("python driver.py", check=True)).text.startswith("14 ")
        job = await ray.start("exec python busy.py", name="busy")
        await eventually(lambda: any(path.exists() for path in child), "it computes again", within_s=100)
        os.kill(pids_of(sshds[0], "gcs_server")[0], signal.SIGKILL)
        status = await ad.wait_job(pool.at(nodes[0]), job)
        assert status.exit_status == 75
        with pytest.raises(ad.LaunchFailed, match="node rank 0") as caught:
            await ray.run("true")
        assert caught.value.node == nodes[0].name
    await nothing_left(sshds, ray.launch)


@LONG
async def test_a_node_that_does_not_join_is_named(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path, env: OtherPython
) -> None:
    """Its raylet is told another address of the head."""
    sshds = sshd_nodes[:2]
    ray = Path(env.folder) / "ray"
    first = project / "bin"
    first.mkdir()
    (first / "ray").write_text(f'#!/bin/sh\ncase "$*" in *--head*) exec {ray} "$@";; esac\necho lost; exec sleep 987\n')
    (first / "ray").chmod(0o755)
    odd = OtherPython(f"bin:{env.folder}")
    cluster = ad.RayCluster(cpus=1, gpus=0, object_store_gb=0.1, join_s=30)
    with pytest.raises(ad.LaunchFailed, match="node rank 1 did not join the engine within 30 s") as caught:
        await ad.fan_out([each.node for each in sshds], project, cluster, odd, grace_s=1, pool=pool)
    assert caught.value.evidence == "lost"
    for sshd in sshds:
        assert pids_of(sshd, "ray") == []
    assert not list(Path("/tmp").glob(f"ad-{caught.value.launch_id.rpartition('-')[2]}-*"))


@LONG
async def test_in_containers(project: Path, env: OtherPython) -> None:
    """Drivers run inside; node and container have one /dev/shm."""
    bed = SshdBed()
    mounts = (*PYTHON_MOUNTS, f"{Path(env.folder).parent}:{Path(env.folder).parent}:ro")
    with docker_daemon() as daemon:
        config = {"SetEnv": f"DOCKER_HOST={daemon.env['DOCKER_HOST']}"}
        inside = ad.DockerEnv(IMAGE, mounts=mounts, ulimits=("nofile=1024:1024",), engine="docker", env=env)
        try:
            sshds = [bed.start(name, config=config) for name in ("r0", "r1")]
            async with pool_for(sshds[0]) as pool:
                nodes = [sshd.node for sshd in sshds]
                async with ad.ray_cluster(nodes, project, inside, cluster=SMALL, pool=pool) as ray:
                    assert len(daemon.containers()) == 2
                    assert (await ray.run("python driver.py", check=True)).text == "14 r0 r1"
                    job = await ray.start("python busy.py", name="busy")
                    children = [Path(workdir) / "child" for workdir in ray.launch.workdirs]
                    await eventually(lambda: any(child.exists() for child in children), "it computes", within_s=60)
                assert (await ad.job_status(pool.at(nodes[0]), job)).stopped
            await eventually(lambda: not daemon.containers(), "no container is left")
            await nothing_left(sshds, ray.launch)
        finally:
            bed.close()
