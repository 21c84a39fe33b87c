"""DockerEnv by podman, where it runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.docker import DockerEnv
from asyncdeploy.run.jobs import stop_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandTimeout
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.docker import IMAGE, LIMITS, Podman, own_podman
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

SLEEPS = "trap '' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """One for all tests here."""
    with own_podman() as podman:
        yield podman


@pytest.fixture
def sshd(podman: Podman) -> Iterator[SshdNode]:
    """A node that finds podman's storage in its environment."""
    bed = SshdBed()
    try:
        yield bed.start("p0", config={"SetEnv": " ".join(f"{name}={value}" for name, value in podman.env.items())})
    finally:
        bed.close()


async def test_a_run_a_timeout_and_a_job(podman: Podman, sshd: SshdNode, pool: Pool, project: Path) -> None:
    (project / "hello.txt").write_text("hello\n")
    env = DockerEnv(IMAGE, engine="podman", ulimits=LIMITS)
    deployed = await deploy_project(pool, sshd.node, Workspace(project), env)
    done = await run_in_project(
        pool, deployed, Command('cat; cat hello.txt; echo "$A"; exit 3', stdin="in\n", env={"A": "b c"})
    )
    assert (done.status, done.stdout, done.stderr) == (3, b"in\nhello\nb c\n", b"")
    with pytest.raises(CommandTimeout):
        await run_in_project(pool, deployed, Command(SLEEPS, timeout_s=1.0))
    await eventually(lambda: not podman.containers(), "no container is left")
    job = await start_in_project(pool, deployed, SLEEPS, name="train")
    await eventually(lambda: podman.containers() == [f"asyncdeploy-{job.id}"], "its container runs")
    status = await stop_job(pool.at(sshd.node), job, grace_s=0.3)
    assert status.ended
    await eventually(lambda: not podman.containers(), "no container is left")
