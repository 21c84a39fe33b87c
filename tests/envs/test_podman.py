"""DockerEnv by podman, where it runs."""

import os
import shutil
import subprocess
import tempfile
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
from tests.support.beds.docker import IMAGE, small_system
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import find, missing, need, need_root
from tests.support.waiting import eventually

# What a virtual machine allows: runc where crun refuses its cgroups, and limits below the hard ones.
CONTAINERS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
SLEEPS = "trap '' TERM; while :; do sleep 0.1; done"


class Podman:
    """podman with its own storage."""

    def __init__(self, folder: Path) -> None:
        (folder / "containers.conf").write_text(CONTAINERS)
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
        self.env = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *words: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
        """Run podman."""
        return subprocess.run(
            [str(find("podman")), *words], env={**os.environ, **self.env}, input=stdin, capture_output=True
        )

    def containers(self) -> list[str]:
        """The names of all containers."""
        return self.run("ps", "-a", "--format", "{{.Names}}").stdout.decode().split()


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """podman, if it can run anything here."""
    need_root()
    need("podman", "runc", "busybox")
    # A short path: podman's sockets lie far below, and where one's name is too long it waits 20 s for each container.
    folder = Path(tempfile.mkdtemp(prefix="adpod-"))
    podman = Podman(folder)
    made = podman.run("import", "-", IMAGE, stdin=small_system())
    tried = podman.run("run", "--rm", "--network=host", IMAGE, "true")
    if made.returncode or tried.returncode:
        missing(f"podman does not run here: {(made.stderr + tried.stderr).decode()[-600:]}")
    yield podman
    podman.run("rm", "-fa")
    subprocess.run(["umount", "-l", f"{folder}/graph/overlay"], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


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
    env = DockerEnv(IMAGE, engine="podman", ulimits=("nofile=1024:1024", "nproc=1000:1000"))
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
