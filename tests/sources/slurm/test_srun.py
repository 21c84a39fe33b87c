"""A real Slurm whose compute nodes no ssh reaches: srun, begun on the login node or inside the job, carries it all."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import deploy_project
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import fan_out, find_launch, stop_launch
from asyncdeploy.fleet.launches import launch_status
from asyncdeploy.launch.gang.attached import run_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import job_status, start_job, stop_job, wait_job
from asyncdeploy.sources.slurm.allocation import SlurmAllocation, reap_allocations, slurm_allocation
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import NoShell
from asyncdeploy.values.workspace import Workspace
from tests.support.places import ROOT
from tests.support.slurm.bed import Slurm
from tests.support.slurm.holder import DIES
from tests.support.waiting import BACK_S, PATIENCE_S, eventually, eventually_sync

EVERY_BYTE = bytes(range(256)) * 4096


@pytest.fixture
async def pool(slurm: Slurm) -> AsyncIterator[Pool]:
    async with Pool(host_keys=HostKeys.strict(slurm.login.known_hosts)) as pool:
        yield pool


@pytest.fixture
async def allocation(slurm: Slurm, pool: Pool) -> AsyncIterator[SlurmAllocation]:
    async with slurm_allocation(slurm.login.node, nodes=2, time_s=600, connect="srun", pool=pool) as allocation:
        yield allocation


def steps(slurm: Slurm) -> int:
    """How many steps of ours there are."""
    return len([line for line in slurm.ask("squeue", "-hs", "-o%i").split() if line.partition(".")[2].isdigit()])


async def test_attached_work_goes_over_srun(
    slurm: Slurm, pool: Pool, allocation: SlurmAllocation, project: Path
) -> None:
    first, second = allocation.nodes
    assert [node.name for node in allocation.nodes] == slurm.names
    done = await run_command(pool.at(first), Command("hostname; env | grep -c ^SSH_; echo err >&2; exit 7"))
    assert (done.text, done.stderr, done.status) == (f"{first.name}\n0", b"err\n", 7)
    echoed = await run_command(pool.at(second), Command("cat", stdin=EVERY_BYTE))
    assert echoed.stdout == EVERY_BYTE
    killed = await run_command(pool.at(first), Command("kill -TERM $$"))
    assert (killed.status, killed.signal) == (None, "TERM")
    facts = [await probe_node(pool.at(node)) for node in allocation.nodes]
    assert facts[0].identity != facts[1].identity
    assert [each.ssh_address for each in facts] == ["", ""]

    running = asyncio.create_task(run_command(pool.at(first), Command("echo $$ > pid; exec sleep 600")))
    pid_file = slurm.login.home / "pid"
    await eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
    running.cancel()
    with anyio.fail_after(BACK_S), pytest.raises(asyncio.CancelledError):
        await running
    gone = await run_command(pool.at(first), Command('kill -0 "$(cat pid)"'))
    assert gone.status == 1

    (project / "main.py").write_text("import pathlib, socket\npathlib.Path('out').write_text(socket.gethostname())\n")
    deployment = await deploy_project(pool, second, Workspace(project, remote_path="~/p"), SystemEnv())
    await run_command(pool.at(second), Command("python3 main.py", cwd=deployment.site.path), check=True)
    (await collect_all([deployment], "out", project / "home", pool=pool)).unwrap()
    assert [path.read_text() for path in (project / "home").rglob("out")] == [second.name]


async def test_a_job_lives_in_a_step_that_stays_for_it(slurm: Slurm, pool: Pool, allocation: SlurmAllocation) -> None:
    node = allocation.nodes[0]
    async with Pool(host_keys=HostKeys.strict(slurm.login.known_hosts)) as ours:
        job = await start_job(ours.at(node), Command("while :; do echo on; sleep 0.1; done"), name="stays")
    log = slurm.login.home / ".asyncdeploy" / "jobs" / job.id / "log"
    slurm.login.end_sessions()  # whoever was connected is gone, and what sshd started with it
    seen = log.stat().st_size
    await eventually(lambda: log.stat().st_size > seen + 100)
    assert (await job_status(pool.at(node), job)).state == "running"
    assert (await stop_job(pool.at(node), job)).state == "signalled"
    await pool.drop(node)
    await eventually(lambda: steps(slurm) == 0, "the step has ended with its job")


async def test_the_end_of_slurms_job_ends_what_runs_in_it(slurm: Slurm, pool: Pool) -> None:
    login = slurm.login.node
    saves = Command("trap 'sleep 4; echo saved > checkpoint; exit 3' TERM; echo up > up; while :; do sleep 0.1; done")
    async with slurm_allocation(login, nodes=1, time_s=600, connect="srun", pool=pool) as allocation:
        node = allocation.nodes[0]
        job = await start_job(pool.at(node), saves, name="saves")
        await eventually((slurm.login.home / "up").exists)
    with pytest.raises(NoShell, match=f"no step of Slurm job {allocation.job_id}") as caught:
        await job_status(pool.at(node), job)
    assert "srun: error" in caught.value.evidence
    checkpoint = slurm.login.home / "checkpoint"
    await eventually(checkpoint.exists)
    async with asyncio.timeout(PATIENCE_S):  # the home is shared: the login node knows it, too
        status = await wait_job(pool.at(login), job)
    assert (status.state, status.exit_status) == ("exited", 3)
    assert "Slurm ended the job" in status.because
    assert checkpoint.read_text() == "saved\n"


async def test_ranks_on_all_nodes_find_each_other(
    slurm: Slurm, pool: Pool, allocation: SlurmAllocation, project: Path
) -> None:
    (project / "rank.sh").write_text('echo "$RANK of $WORLD_SIZE on $(hostname) by $MASTER_ADDR"\n')
    deployments = (await deploy_all(allocation.nodes, project, SystemEnv(), pool=pool)).unwrap()
    report = await run_launch(pool, deployments, Ranks("sh rank.sh"))
    said = [done.text for done in report.unwrap()]
    address = slurm.network.address(slurm.machines[0])
    assert said == [f"{rank} of 2 on {name} by {address}" for rank, name in enumerate(slurm.names)]


async def test_a_launch_runs_on_without_its_client_and_is_found(
    slurm: Slurm, pool: Pool, allocation: SlurmAllocation, project: Path
) -> None:
    (project / "rank.sh").write_text('while :; do echo "$RANK"; sleep 0.1; done\n')
    async with Pool(host_keys=HostKeys.strict(slurm.login.known_hosts)) as ours:
        begun = await fan_out(allocation.nodes, project, Ranks("sh rank.sh"), SystemEnv(), grace_s=1, pool=ours)
    slurm.login.end_sessions()  # whoever was connected is gone, and what sshd started with it
    logs = [slurm.login.home / ".asyncdeploy" / "jobs" / job.id / "log" for job in begun.jobs]
    seen = [log.stat().st_size for log in logs]
    await eventually(lambda: all(log.stat().st_size > size for log, size in zip(logs, seen, strict=True)), "it goes on")
    found = await find_launch(allocation.nodes, begun.id, pool=pool)
    assert [job.node for job in found.jobs] == [*allocation.nodes]
    assert (await launch_status(found, pool=pool)).state == "RUNNING"
    assert [outcome.state for outcome in await stop_launch(found, pool=pool)] == ["cancelled"] * 2
    assert (await launch_status(found, pool=pool)).state == "STOPPED"
    for node in allocation.nodes:
        await pool.drop(node)
    await eventually(lambda: steps(slurm) == 0, "the steps have ended with their ranks")


async def test_a_killed_clients_job_is_reaped_and_no_other(slurm: Slurm, pool: Pool) -> None:
    slurm.ask("salloc", "--no-shell", "--nodes=1", "--job-name=ad-0123456789ab")
    login = slurm.login
    words = [sys.executable, "-c", DIES, repr(login.node.to_dict()), str(login.known_hosts)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        name = (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()
    assert set(slurm.ask("squeue", "-ho%j").split()) == {name, "ad-0123456789ab"}
    assert await reap_allocations(pool=pool) == (name,)
    await eventually(lambda: slurm.ask("squeue", "-ho%j").split() == ["ad-0123456789ab"])


INSIDE = """\
import asyncio
import asyncdeploy as ad

async def main():
    nodes = ad.slurm_nodes(connect="srun")
    report = await ad.run_all(nodes, ad.Command("hostname; cat; exit $SLURM_NODEID", stdin="in"))
    for outcome in report:
        print(outcome.node.name, outcome.state, repr((outcome.value or outcome.error.completed).text))
    deployed = (await ad.deploy_all(nodes[:1], "project", ad.SystemEnv())).unwrap()
    (await ad.start_all(deployed, "echo up; exec sleep 600", name="stays")).unwrap()

asyncio.run(main())
"""


def test_inside_the_job_srun_is_run_here(slurm: Slurm, project: Path, tmp_path: Path) -> None:
    (project / "file").touch()
    (tmp_path / "inside.py").write_text(INSIDE)
    env = {"HOME": str(slurm.login.home), "PYTHONPATH": str(ROOT)}
    words = ["salloc", "--nodes=2", f"--chdir={tmp_path}", sys.executable, "-W", "error", "inside.py"]
    said = slurm.ask(*words, env=env).splitlines()
    assert said == [f"{name} ok {name + chr(10) + 'in'!r}" for name in slurm.names]
    # With its salloc a job is killed at once, and what runs in it: nobody is left to write that down.
    [log] = (slurm.login.home / ".asyncdeploy" / "jobs").glob("*/log")
    assert log.read_text() == "up\n"
    eventually_sync(lambda: not slurm.ask("squeue", "-h"), "the job is over")
    pid = int((log.parent / "pid").read_text().split()[0])
    assert pid not in slurm.pids(0)
