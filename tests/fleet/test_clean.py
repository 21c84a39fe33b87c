"""What nobody has used for long is taken away from nodes; what runs and what is a person's stays."""

import asyncio
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, run_in_project, start_in_project
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.clean import clean
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import job_status, list_jobs, start_job, stop_job, wait_job
from asyncdeploy.values.cleaned import Cleaned
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import JobFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode

LONG_AGO = time.time() - 90 * 86400
OLD_S = 60 * 86400.0


def age(*folders: Path) -> None:
    """Let all that we keep there be old."""
    for folder in folders:
        folder = folder if ".asyncdeploy" in folder.parts else folder / ".asyncdeploy"
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


async def clean_one(pool: Pool, sshd: SshdNode, *, older_than_s: float = OLD_S, dry_run: bool = False) -> Cleaned:
    (cleaned,) = (await clean(sshd.node, older_than_s=older_than_s, dry_run=dry_run, pool=pool)).values
    return cleaned


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A lock of the node's that somebody there has."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kinds(cleaned: Cleaned, home: Path) -> dict[str, str]:
    """What went, by its path below the home, and why it stayed."""
    return {f"{item.kind} {Path(item.path).relative_to(home)}": item.kept for item in cleaned.items}


@pytest.fixture
async def deployed(pool: Pool, sshd_nodes: Sequence[SshdNode], project: Path) -> Deployment:
    (project / "lib").mkdir()
    for name in ("train.py", "lib/a.py", "lib/b.py"):
        (project / name).write_text(f"print({name!r})\n")
    report = await deploy_all(sshd_nodes[0].node, Workspace(project, remote_path="~/proj"), SystemEnv(), pool=pool)
    (deployment,) = report.unwrap()
    return deployment


async def ended_job(pool: Pool, sshd: SshdNode, name: str) -> Job:
    job = await start_job(pool.at(sshd.node), "echo said", name=name)
    await wait_job(pool.at(sshd.node), job)
    return job


async def test_a_site_that_nobody_uses_goes_with_all_that_we_put_there(
    pool: Pool, sshd_nodes: Sequence[SshdNode], deployed: Deployment
) -> None:
    sshd, site = sshd_nodes[0], Path(deployed.site.path)
    await run_in_project(pool, deployed, "mkdir lib/__pycache__; echo x >lib/__pycache__/a.cpython-311.pyc")
    assert (await clean_one(pool, sshd)).items == ()
    age(site)
    looked = await clean_one(pool, sshd, dry_run=True)
    assert kinds(looked, sshd.home) == {"site proj": ""}
    assert looked.bytes > 0
    assert (site / "lib/a.py").exists()
    cleaned = await clean_one(pool, sshd)
    assert kinds(cleaned, sshd.home) == {"site proj": ""}
    assert cleaned.bytes == looked.bytes
    assert cleaned.items[0].idle_s > OLD_S
    assert not site.exists()
    assert list((sshd.home / ".asyncdeploy/sites").iterdir()) == []


async def test_what_a_person_or_a_run_left_in_a_site_stays(
    pool: Pool, sshd_nodes: Sequence[SshdNode], deployed: Deployment, project: Path
) -> None:
    sshd, site = sshd_nodes[0], Path(deployed.site.path)
    (site / "checkpoint.pt").write_text("weights")
    (site / "lib/b.py").write_text("edited on the node")
    for folder in ("runs/empty", "mine/__pycache__"):
        (site / folder).mkdir(parents=True)
    (site / "mine/__pycache__/a.pyc").touch()
    age(site)
    assert kinds(await clean_one(pool, sshd, dry_run=True), sshd.home) == {
        "site proj": "3 files that we did not bring, or that were changed, stay"
    }
    assert "3 files" in kinds(await clean_one(pool, sshd), sshd.home)["site proj"]
    left = {str(path.relative_to(site)) for path in site.rglob("*") if ".asyncdeploy" not in path.parts}
    mine = {"runs", "runs/empty", "mine", "mine/__pycache__", "mine/__pycache__/a.pyc"}
    assert left == {"checkpoint.pt", "lib", "lib/b.py", *mine}
    assert (site / "lib/b.py").read_text() == "edited on the node"
    # It is still a site of this project: a push takes it up again, and asks about the edit as ever.
    code = Workspace(project, remote_path="~/proj", on_conflict="overwrite")
    (await deploy_all(sshd.node, code, SystemEnv(), pool=pool)).unwrap()
    assert (site / "train.py").exists()
    assert (site / "checkpoint.pt").read_text() == "weights"


@pytest.mark.parametrize("how", ["a job", "a run", "a program of a person's"])
async def test_a_site_where_something_runs_stays_whole(
    pool: Pool, sshd_nodes: Sequence[SshdNode], deployed: Deployment, how: str
) -> None:
    sshd, site = sshd_nodes[0], Path(deployed.site.path)
    task = job = None
    if how == "a job":
        job = await start_in_project(pool, deployed, "cd /; touch $HOME/runs; sleep 1000", name="train")
    elif how == "a run":
        task = asyncio.ensure_future(run_in_project(pool, deployed, "touch $HOME/runs; sleep 1000"))
    else:
        task = asyncio.create_task(pool.at(sshd.node).open("cd proj/lib && touch $HOME/runs; exec sleep 1000"))
    while not (sshd.home / "runs").exists():
        await asyncio.sleep(0.02)
    age(site, sshd.home / ".asyncdeploy")
    try:
        for dry_run in (True, False):
            (why,) = kinds(await clean_one(pool, sshd, dry_run=dry_run), sshd.home).values()
            assert why.endswith(" runs in it")
        assert (site / "lib/a.py").exists()
        assert (site / ".asyncdeploy/state").exists()
    finally:
        if job is not None:
            assert (await job_status(pool.at(sshd.node), job)).state == "running"
            await stop_job(pool.at(sshd.node), job, grace_s=0)
        if task is not None and how == "a run":
            task.cancel()
            await asyncio.wait([task])
        elif task is not None:
            await (await task).close()
            for pid in [pid for pid, line in sshd.processes().items() if line == "sleep 1000"]:
                os.kill(pid, signal.SIGKILL)


async def test_jobs_that_ended_go_and_those_that_run_stay(pool: Pool, sshd_nodes: Sequence[SshdNode]) -> None:
    sshd = sshd_nodes[0]
    old, young = await ended_job(pool, sshd, "old"), await ended_job(pool, sshd, "young")
    runs = await start_job(pool.at(sshd.node), "sleep 1000", name="runs")
    jobs = sshd.home / ".asyncdeploy/jobs"
    age(jobs / old.id, jobs / runs.id)
    cleaned = await clean_one(pool, sshd)
    assert kinds(cleaned, sshd.home) == {f"job .asyncdeploy/jobs/{old.id}": ""}
    assert not (jobs / old.id).exists()
    assert (jobs / young.id / "log").read_text() == "said\n"
    assert (await stop_job(pool.at(sshd.node), runs, grace_s=1)).state == "signalled"


async def test_tools_that_nothing_asked_for_and_what_was_never_finished_go(
    pool: Pool, sshd_nodes: Sequence[SshdNode]
) -> None:
    sshd = sshd_nodes[0]
    own = sshd.home / ".asyncdeploy"
    for path in (
        "tools/uv-1-abc/uv",
        "images/abc.tar",
        "tools/.uv.123.part",
        "jobs/.gone-x.1/log",
        "tools/uv-2-def/uv",
    ):
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_text("x" * 5000)
    age(own)
    os.utime(own / "tools/uv-2-def/uv")
    assert sorted(kinds(await clean_one(pool, sshd), own)) == [
        "image images/abc.tar",
        "part jobs/.gone-x.1",
        "part tools/.uv.123.part",
        "tool tools/uv-1-abc",
    ]
    assert [str(path.relative_to(own)) for path in own.rglob("*") if path.is_file() and path.name != ".looked"] == [
        "tools/uv-2-def/uv"
    ]


async def test_a_bad_age_is_refused_and_a_node_that_lies_is_named(pool: Pool, sshd_nodes: Sequence[SshdNode]) -> None:
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="clean older_than_s"):
            await clean(sshd_nodes[0].node, older_than_s=bad, pool=pool)


async def test_it_is_data(pool: Pool, sshd_nodes: Sequence[SshdNode]) -> None:
    await ended_job(pool, sshd_nodes[0], "old")
    cleaned = await clean_one(pool, sshd_nodes[0], older_than_s=0, dry_run=True)
    assert Cleaned.from_dict(json.loads(json.dumps(cleaned.to_dict()))) == cleaned


async def test_what_a_container_left_in_its_home_stays(
    pool: Pool, sshd_nodes: Sequence[SshdNode], deployed: Deployment
) -> None:
    sshd, site = sshd_nodes[0], Path(deployed.site.path)
    home = site / ".asyncdeploy/home"
    home.mkdir()
    (home / "weights").write_text("trained for a week")
    age(site)
    for dry_run in (True, False):
        assert "1 files" in kinds(await clean_one(pool, sshd, dry_run=dry_run), sshd.home)["site proj"]
    assert (home / "weights").read_text() == "trained for a week"
    assert not (site / "train.py").exists()


async def test_j11_a_job_is_not_started_in_a_site_that_is_just_being_emptied(
    pool: Pool, deployed: Deployment, sshd_nodes: Sequence[SshdNode]
) -> None:
    remote, site = pool.at(sshd_nodes[0].node), Path(deployed.site.path)
    with held(site / ".asyncdeploy" / "cleaning"):
        with pytest.raises(JobFailed, match="is just being cleaned away"):
            await start_job(remote, "sleep 300", name="late", site=deployed.site)
        with pytest.raises(JobFailed, match="proj is just being cleaned away"):
            await start_job(remote, Command("sleep 300", cwd="~/proj/lib"), name="late")
        assert await list_jobs(remote) == ()
        (item,) = (await clean_one(pool, sshd_nodes[0], older_than_s=0)).items
        assert item.kept == "another cleaning runs in it"
    job = await start_job(remote, "true", name="later", site=deployed.site)
    assert (await wait_job(remote, job)).ok


async def test_j11_a_cleaning_lets_a_start_through_and_sees_its_job(
    pool: Pool, deployed: Deployment, sshd_nodes: Sequence[SshdNode]
) -> None:
    """Either the job runs and its site stays, or the site is gone and the job was not started."""
    sshd = sshd_nodes[0]
    remote, site = pool.at(sshd.node), Path(deployed.site.path)
    await ended_job(pool, sshd, "before")  # makes the folder of jobs
    with held(sshd.home / ".asyncdeploy" / "jobs" / ".names"):
        cleaning = asyncio.create_task(clean_one(pool, sshd, older_than_s=0))
        await asyncio.wait([cleaning], timeout=1)
        assert not cleaning.done()
        assert (site / "train.py").exists()
        starting = asyncio.create_task(start_job(remote, "sleep 300", name="late", site=deployed.site))
    cleaned = await cleaning
    try:
        job = await starting
    except JobFailed:
        assert not site.exists()
        return
    kept = {item.path: item.kept for item in cleaned.items if item.kind == "site"}
    state = await stop_job(remote, job, grace_s=0)
    assert state.ended
    assert (site / "train.py").exists() == ("runs in it" in kept[str(site)])
