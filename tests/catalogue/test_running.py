"""The catalogue: what is said where a command or a job does not do what was wanted."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]
Told = Callable[..., str]


async def ran(sshd: SshdNode, command: ad.Command | str) -> ad.DeployError | None:
    async with pool_for(sshd) as pool:
        report = await ad.run_all(sshd.node, command, pool=pool)
    return report.outcomes[0].error


async def test_a_command_fails(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    assert (
        told(await ran(sshd, "echo reading; echo 'cannot read data.bin' >&2; exit 3"))
        == """\
gpu-a: command exited 3: echo reading; echo 'cannot read data.bin' >&2; exit 3
  | cannot read data.bin"""
    )


async def test_a_program_that_is_not_there(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    error = await ran(sshd, "uvx ruff")
    assert (
        told(error)
        == """\
gpu-a: command exited 127: uvx ruff
  | sh: 1: exec: uvx: not found
hint: uvx was looked for on the PATH of the login, <PATH>; what only an interactive shell's .bashrc puts there is not seen: give its whole path, set PATH in env=, or let an environment (UvEnv) bring it"""
    )


async def test_a_command_takes_too_long(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    assert (
        told(await ran(sshd, ad.Command("echo begun; sleep 999", timeout_s=5)))
        == """\
gpu-a: command was not done within 5 s and was ended: echo begun; sleep 999
  | begun"""
    )


async def test_a_job_of_that_name_runs(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    (project / "main.py").write_text("")
    async with pool_for(sshd) as pool:
        deployed = (await ad.deploy_all(sshd.node, project, ad.SystemEnv(), pool=pool)).unwrap()
        job = (await ad.start_all(deployed, "sleep 999", name="train", pool=pool)).unwrap()[0]
        report = await ad.start_all(deployed, "sleep 999", name="train", pool=pool)
        await ad.stop_job(pool.at(sshd.node), job)
    assert (
        told(report.outcomes[0].error, home=sshd.home, job=job.id)
        == """\
gpu-a: a job named 'train' runs on <home>/project: <job>
hint: stop_job ends it; another name starts a second one"""
    )


async def test_a_job_fails(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        job = await ad.start_job(remote, "echo reading; echo boom; exit 4", name="train")
        status = await ad.wait_job(remote, job)
    assert (
        told(status.failure(), job=job.id)
        == """\
gpu-a: job <job> exited 4
  | reading
  | boom
hint: its whole log: ~/.asyncdeploy/jobs/<job>/log on gpu-a"""
    )


async def test_the_node_goes_away(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        await ad.run_command(remote, "true")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(ad.run_all(sshd.node, "touch begun; exec sleep 999", pool=pool))
            await eventually((sshd.home / "begun").exists, "the command runs")
            sshd.end_sessions()
    assert (
        told(running.result().outcomes[0].error)
        == """\
gpu-a: the connection broke while a line ran there
hint: what became of it is not known; what must outlive a connection is started as a job (start_all, fan_out)"""
    )


async def test_no_python_where_a_launch_needs_one(plain_sshd: SshdNode, project: Path, told: Told) -> None:
    (project / "train.py").write_text("")
    async with pool_for(plain_sshd) as pool:
        with pytest.raises(ad.LaunchFailed) as caught:
            await ad.fan_out(plain_sshd.node, project, ad.Ranks("true", nproc_per_node=1), ad.SystemEnv(), pool=pool)
    assert (
        told(caught.value, home=plain_sshd.home)
        == """\
node rank 0 is not ready, nothing was started: no python3 from 3.8 on starts there, and what watches over ranks is \
Python
ROOT CAUSE  plain
hint: install python3 there; commands and jobs (run, start) do without"""
    )
    assert not (plain_sshd.home / "project").exists(), "and nothing was sent"
    async with pool_for(plain_sshd) as pool:
        verdict = await ad.preflight(plain_sshd.node, pool=pool)
        deployed = (await ad.deploy_all(plain_sshd.node, project, ad.SystemEnv(), pool=pool)).unwrap()
        with pytest.raises(ad.LaunchFailed, match="nothing was started: no python3 from"):
            await ad.start_launch(pool, deployed, ad.Ranks("true"))
    assert "problem: plain does not take part: no python3 from 3.8 on starts there" in verdict.describe()
