"""Dask in containers of docker and podman: drivers run inside, beside it, and nothing is left there or outside."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from tests.support.beds.docker import IMAGE, LIMITS, PYTHON_MOUNTS, docker_daemon, own_podman
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.examples import OurPython
from tests.support.programs.engines import dask_project, nothing_left
from tests.support.waiting import eventually

ONE = ad.DaskCluster(workers=1)


@attrs.frozen
class Place:
    """Two nodes with an engine of containers, and what runs there."""

    sshds: tuple[SshdNode, ...]
    env: ad.DockerEnv
    containers: Callable[[], list[str]]

    @property
    def nodes(self) -> list[ad.Node]:
        return [sshd.node for sshd in self.sshds]

    async def nothing_left(self, launch: ad.Launch) -> None:
        await eventually(lambda: not self.containers(), "no container is left")
        await nothing_left(self.sshds, launch)


def inside(place: Place, words: str) -> list[int]:
    """Processes of the first node's containers whose arguments hold these words."""
    home = str(place.sshds[0].home).encode()
    found = []
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            if words.encode() in line and home in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


@pytest.fixture(scope="module", params=["docker", "podman"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    bed = SshdBed()
    with docker_daemon() if request.param == "docker" else own_podman() as there:
        config = {"SetEnv": " ".join(f"{name}={value}" for name, value in there.env.items())}
        env = ad.DockerEnv(IMAGE, mounts=PYTHON_MOUNTS, ulimits=LIMITS, engine=request.param, env=OurPython())
        try:
            yield Place(tuple(bed.start(name, config=config) for name in ("c0", "c1")), env, there.containers)
        finally:
            bed.close()


@pytest.fixture
def workspace(project: Path, tmp_path: Path) -> ad.Workspace:
    return ad.Workspace(dask_project(project), remote_path=f"~/{tmp_path.name}")


async def test_a_driver_computes_inside(place: Place, workspace: ad.Workspace) -> None:
    async with (
        pool_for(place.sshds[0]) as pool,
        ad.dask_cluster(place.nodes, workspace, place.env, cluster=ONE, pool=pool) as dask,
    ):
        assert len(place.containers()) == 2
        assert (await dask.run("python driver.py", check=True)).text == "285 c0 c1"
        line = 'cat; ls /bin/busybox; echo "$A $B $ASYNCDEPLOY_JOB"; pwd; exit 3'
        own = ad.Command(line, stdin="in\n", env={"A": "my o\nwn"}, secrets={"B": "own"})
        said = await dask.run(own)
        assert (said.status, said.stderr) == (3, b"")
        assert said.stdout.decode() == f"in\n/bin/busybox\nmy o\nwn own \n{dask.launch.workdirs[0]}\n"
        kept = (place.sshds[0].home / ".asyncdeploy").rglob("*")
        assert not [path for path in kept if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
        left = await dask.run("sleep 987 >/dev/null 2>&1 & until pidof sleep >/dev/null; do :; done; echo left")
        assert left.text == "left"
        await eventually(lambda: not inside(place, "sleep 987"), "nothing of it stays inside")
        assert len(place.containers()) == 2, "the engine does"
    await place.nothing_left(dask.launch)
    async with pool_for(place.sshds[0]) as pool:
        with pytest.raises(ad.LaunchFailed, match="was stopped, and its driver with it"):
            await ad.run_on_cluster(dask.launch, "true", pool=pool)


async def test_a_driver_is_told_and_ended_and_the_engine_stays(place: Place, workspace: ad.Workspace) -> None:
    async with (
        pool_for(place.sshds[0]) as pool,
        ad.dask_cluster(place.nodes, workspace, place.env, cluster=ONE, pool=pool) as dask,
    ):
        saves = "trap 'echo saved >saved; exit 0' TERM; echo >begun; while :; do sleep 0.05; done"
        job = await dask.start(saves, name="saves")
        begun, saved = (Path(dask.launch.workdirs[0]) / name for name in ("begun", "saved"))
        await eventually(begun.exists, "it runs")
        await ad.stop_job(pool.at(place.nodes[0]), job, grace_s=5)
        assert saved.exists()
        begun.unlink()
        running = asyncio.create_task(dask.run("trap '' TERM; echo >begun; exec sleep 987"))
        await eventually(lambda: inside(place, "sleep 987"), "it runs inside")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await eventually(lambda: not inside(place, "sleep 987"), "nothing of it is left inside")
        assert (await dask.run("python driver.py", check=True)).text == "285 c0 c1"
    await place.nothing_left(dask.launch)


async def test_a_stop_from_elsewhere_and_an_engine_that_is_killed(place: Place, workspace: ad.Workspace) -> None:
    async with pool_for(place.sshds[0]) as pool, pool_for(place.sshds[0]) as other:
        one = place.nodes[:1]  # the task writes to this node's folder
        launch = await ad.fan_out(one, workspace, ONE, place.env, grace_s=3, pool=pool)
        found = await ad.find_launch(one, launch.id, pool=other)
        job = await ad.start_on_cluster(found, "python busy.py", name="busy", pool=other)
        await eventually((Path(launch.workdirs[0]) / "child").exists, "it computes")
        assert [outcome.state for outcome in await ad.stop_launch(found, pool=other)] == ["cancelled"]
        assert (await ad.job_status(other.at(one[0]), job)).stopped
        await place.nothing_left(launch)
        launch = await ad.fan_out(place.nodes, workspace, ONE, place.env, grace_s=1, pool=pool)
        job = await ad.start_on_cluster(launch, "echo >begun; exec sleep 987", name="waits", pool=pool)
        await eventually((Path(launch.workdirs[0]) / "begun").exists, "it runs")
        os.kill(inside(place, "dask scheduler")[0], signal.SIGKILL)
        status = await ad.wait_job(pool.at(place.nodes[0]), job)
        assert status.exit_status == 75, status
        assert "has ended, and its driver with it" in status.last_lines
        await ad.stop_launch(launch, pool=pool)
        await place.nothing_left(launch)
