"""The catalogue: what is said where a project cannot be put on a node, or its results not be brought home."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need_root

StartSshd = Callable[..., SshdNode]
Told = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one file."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    return folder


async def pushed(sshd: SshdNode, workspace: ad.Workspace) -> ad.DeployError | None:
    async with pool_for(sshd) as pool:
        report = await ad.push_all(sshd.node, workspace, pool=pool)
    return report.outcomes[0].error


async def test_the_disk_is_full(start_sshd: StartSshd, project: Path, told: Told) -> None:
    need_root()
    sshd = start_sshd("gpu-a", disks={"~": "full"})
    (project / "large.bin").write_bytes(bytes(range(256)) * 2000)
    assert (
        told(await pushed(sshd, ad.Workspace(project)), home=sshd.home)
        == """\
gpu-a: no room at <home>/project: 0 B free
hint: free space there (clean(nodes) takes away what nobody has used for long), or give a remote_path elsewhere"""
    )


async def test_the_disk_is_read_only(start_sshd: StartSshd, project: Path, told: Told) -> None:
    need_root()
    sshd = start_sshd("gpu-a", disks={"~": "read-only"})
    assert (
        told(await pushed(sshd, ad.Workspace(project)), home=sshd.home)
        == """\
gpu-a: cannot write <home>/project: Read-only file system
hint: its file system is mounted read-only; give a remote_path on another one"""
    )


async def test_another_project_stands_there(start_sshd: StartSshd, project: Path, tmp_path: Path, told: Told) -> None:
    sshd, other = start_sshd("gpu-a"), tmp_path / "other" / "project"
    other.mkdir(parents=True)
    (other / "else.py").write_text("")
    assert await pushed(sshd, ad.Workspace(other)) is None
    assert (
        told(await pushed(sshd, ad.Workspace(project)), home=sshd.home)
        == """\
gpu-a: <home>/project belongs to another project: <tmp>/other/project on <host>
hint: give another remote_path; if they are one, give both a name in pyproject.toml ([tool.asyncdeploy] name); Workspace(on_conflict='overwrite') takes it over"""
    )


async def test_a_folder_that_we_did_not_make(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    (sshd.home / "project").mkdir()
    (sshd.home / "project" / "thesis.tex").write_text("years of work")
    assert (
        told(await pushed(sshd, ad.Workspace(project)), home=sshd.home)
        == """\
gpu-a: <home>/project stands there already, is not empty and was not made by us
hint: give another remote_path; Workspace(on_conflict='overwrite') moves in beside what is there"""
    )


async def test_somebody_edited_it_there(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    assert await pushed(sshd, ad.Workspace(project)) is None
    (sshd.home / "project" / "main.py").write_text("print(2)  # mended on the node\n")
    (project / "main.py").write_text("print(3)\n")
    assert (
        told(await pushed(sshd, ad.Workspace(project)), home=sshd.home)
        == """\
gpu-a: edited on the node since our last push: main.py
hint: look at them on the node; Workspace(on_conflict='overwrite') takes yours instead"""
    )


async def test_a_job_runs_in_it(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    async with pool_for(sshd) as pool:
        deployed = (await ad.deploy_all(sshd.node, project, ad.SystemEnv(), pool=pool)).unwrap()
        job = (await ad.start_all(deployed, "sleep 999", name="train", pool=pool)).unwrap()[0]
        (project / "main.py").write_text("print(3)\n")
        report = await ad.push_all(sshd.node, project, pool=pool)
        await ad.stop_job(pool.at(sshd.node), job)
    assert (
        told(report.outcomes[0].error, home=sshd.home, job=job.id)
        == """\
gpu-a: a job runs in <home>/project: <job>
hint: wait for it or stop it; Workspace(under_jobs='overwrite') pushes under it"""
    )


async def test_another_deployer_holds_it(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    assert await pushed(sshd, ad.Workspace(project)) is None
    lock = sshd.home / "project" / ".asyncdeploy" / "lock"
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("ann@laptop pid 4242, since 12:00 UTC")
        file.flush()
        async with pool_for(sshd) as pool:
            with pytest.raises(ad.WorkspaceBusy) as caught:
                await ad.push_code(pool.at(sshd.node), project, wait_s=0)
    assert (
        told(caught.value, home=sshd.home)
        == """\
gpu-a: <home>/project is held by ann@laptop pid 4242, since 12:00 UTC
hint: try again when that push is done"""
    )


async def test_there_is_no_such_folder_here(start_sshd: StartSshd, tmp_path: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    with pytest.raises(ad.DeployError) as caught:
        await pushed(sshd, ad.Workspace(tmp_path / "projct"))
    assert (
        told(caught.value)
        == """\
the workspace <tmp>/projct: a folder was expected, there is nothing
hint: give the project's folder"""
    )


async def test_results_that_are_not_there(start_sshd: StartSshd, project: Path, tmp_path: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    async with pool_for(sshd) as pool:
        deployed = (await ad.deploy_all(sshd.node, project, ad.SystemEnv(), pool=pool)).unwrap()
        report = await ad.collect_all(deployed, "results", tmp_path / "home", pool=pool)
    assert (
        told(report.outcomes[0].error, home=sshd.home)
        == """\
gpu-a: <home>/project/results on the node cannot be collected: No such file or directory
hint: paths are relative to the project's folder on the node: run_in_project(pool, deployment, 'ls') shows it, as does asyncdeploy ssh RUN"""
    )
