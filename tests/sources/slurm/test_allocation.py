"""A job for the length of a block: programs on a real sshd play salloc, squeue and scancel, with a folder as Slurm."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.sources.slurm.allocation import reap_allocations, slurm_allocation
from asyncdeploy.values.errors import CommandFailed, DeployError
from tests.support.beds.sshd_node import SshdNode
from tests.support.slurm.holder import DIES
from tests.support.waiting import BACK_S, eventually

# Each job is a file of its name with its words; squeue shows them all, as if it were the state of the cluster.
SALLOC = """\
#!/bin/sh
[ -e {jobs}/refuse ] && { echo "salloc: error: Invalid partition" >&2; exit 1; }
for word; do case $word in --job-name=*) name=${word#*=};; esac; done
echo "$*" > {jobs}/$name.job
while [ -e {jobs}/pending ]; do sleep 0.05; done
echo "salloc: Granted job allocation 42" >&2
"""
SQUEUE = """\
#!/bin/sh
if [ -s {jobs}/late ]; then sed -i 1d {jobs}/late; exit; fi
for word; do case $word in --name=*) name=${word#*=};; esac; done
if [ -e {jobs}/$name.job ]; then echo "42|R|gpu[01-02]|1-00:59:30"; fi
"""
SCANCEL = """\
#!/bin/sh
[ -s {jobs}/late ] && exit
[ -e {jobs}/stuck ] && exit 1
while [ -e {jobs}/hang ]; do : >{jobs}/hangs; sleep 0.05; done
rm -f {jobs}/${1#--name=}.job
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs"
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    for name, text in (("salloc", SALLOC), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (tmp_path / "bin" / name).write_text(text.replace("{jobs}", str(folder)))
        (tmp_path / "bin" / name).chmod(0o755)
    return folder


@pytest.fixture
async def login(start_sshd: Callable[..., SshdNode], jobs: Path) -> SshdNode:
    return start_sshd("login", config={"SetEnv": f"PATH={jobs.parent}/bin:/usr/local/bin:/usr/bin:/bin"})


@pytest.fixture
async def slurm(login: SshdNode) -> AsyncIterator[Pool]:
    async with Pool(host_keys=HostKeys.strict(login.known_hosts)) as pool:
        yield pool


async def test_a_job_lives_as_long_as_its_block(login: SshdNode, slurm: Pool, jobs: Path) -> None:
    wish = {"nodes": 2, "time_s": 61.0, "gpus_per_node": 8, "options": ["--partition=gpu", "--gpus=16", "-pgpu"]}
    async with slurm_allocation(login.node, **wish, pool=slurm) as allocation:  # type: ignore[arg-type]
        [job] = jobs.glob("*.job")
        said = job.read_text().split()
        assert {"--no-shell", "--nodes=2", "--time=2", "--gpus-per-node=8", "--partition=gpu"} < set(said)
        assert [(node.name, node.slots, node.jump) for node in allocation.nodes] == [
            ("gpu01", 8, login.node),
            ("gpu02", 8, login.node),
        ]
        assert allocation.job_id == 42
    assert [*jobs.glob("*.job")] == []


async def test_an_error_of_the_block_or_of_salloc_ends_it_too(login: SshdNode, slurm: Pool, jobs: Path) -> None:
    with pytest.raises(KeyError):
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            raise KeyError("mine")
    assert [*jobs.glob("*.job")] == []
    (jobs / "refuse").touch()
    with pytest.raises(CommandFailed) as caught:
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            pass
    assert "Invalid partition" in caught.value.evidence


async def test_a_pending_job_is_given_up_when_nobody_waits_for_it(login: SshdNode, slurm: Pool, jobs: Path) -> None:
    (jobs / "pending").touch()

    async def work() -> None:
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            pass

    task = asyncio.create_task(work())
    await eventually(lambda: any(jobs.glob("*.job")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [*jobs.glob("*.job")] == []


async def test_what_cannot_be_ended_is_said(
    login: SshdNode, slurm: Pool, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncdeploy.sources.slurm.allocation.END_S", 1.0)
    (jobs / "stuck").touch()
    with pytest.raises(DeployError, match=r"may still run.*scancel --name=ad-"):
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            pass
    with pytest.raises(KeyError) as own:
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            raise KeyError("mine")
    assert "scancel --name=ad-" in own.value.__notes__[0]


async def test_the_next_reap_ends_what_a_killed_process_held_and_nothing_else(
    login: SshdNode, slurm: Pool, jobs: Path, tmp_path: Path
) -> None:
    (jobs / "ad-0123456789ab.job").write_text("of somebody else, under a name that might be ours")
    words = [sys.executable, "-c", DIES, repr(login.node.to_dict()), str(login.known_hosts)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        name = (await process.stdout.readline()).decode().strip()
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm) as ours:
            assert await reap_allocations(pool=slurm) == ()  # both live
            assert {path.stem for path in jobs.glob("*.job")} == {name, ours.name, "ad-0123456789ab"}
            process.kill()
            await process.wait()
            assert await reap_allocations("another-login", pool=slurm) == ()
            assert await reap_allocations(login.node, pool=slurm) == (name,)
            assert {path.stem for path in jobs.glob("*.job")} == {ours.name, "ad-0123456789ab"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert await reap_allocations(pool=slurm) == ()
    assert [path.stem for path in jobs.glob("*.job")] == ["ad-0123456789ab"]
    assert [*(tmp_path / "state" / "asyncdeploy" / "allocations").iterdir()] == []


async def test_what_a_reap_cannot_end_is_said_and_tried_again(
    login: SshdNode, slurm: Pool, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncdeploy.sources.slurm.allocation.END_S", 1.0)
    (jobs / "stuck").touch()
    with pytest.raises(DeployError, match="may still run"):
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm) as allocation:
            pass
    with pytest.raises(DeployError, match=f"Slurm job {allocation.name} may still run"):
        await reap_allocations(pool=slurm)
    (jobs / "stuck").unlink()
    (jobs / "hang").touch()
    reaping = asyncio.create_task(reap_allocations(pool=slurm))
    await eventually((jobs / "hangs").exists)
    reaping.cancel()
    with anyio.fail_after(BACK_S), pytest.raises(asyncio.CancelledError):
        await reaping
    (jobs / "hang").unlink()
    assert await reap_allocations(pool=slurm) == (allocation.name,)


async def test_a_job_that_is_not_shown_yet_is_not_taken_for_one_that_is_gone(
    login: SshdNode, slurm: Pool, jobs: Path, tmp_path: Path
) -> None:
    async def granted() -> None:
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            pass

    (jobs / "late").write_text("look\n" * 100)
    with pytest.raises(DeployError, match="expected to show") as caught:
        await granted()
    assert "may still run: it was granted, and squeue never showed it" in caught.value.__notes__[0]
    assert [*jobs.glob("*.job")]
    (jobs / "late").write_text("look\n" * 2)
    await reap_allocations(pool=slurm)
    assert [*jobs.glob("*.job")] == []
    assert [*(tmp_path / "state" / "asyncdeploy" / "allocations").iterdir()] == []


async def test_a_job_that_cannot_be_written_down_is_not_asked_for(
    login: SshdNode, slurm: Pool, jobs: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(DeployError, match="could not be written down"):
        async with slurm_allocation(login.node, nodes=1, time_s=60, pool=slurm):
            pass
    assert [*jobs.glob("*.job")] == []


@pytest.mark.parametrize(
    "wrong,word",
    [
        ({"nodes": 0}, "nodes"),
        ({"time_s": 0.5}, "time_s"),
        ({"time_s": 31 * 86400.0}, "time_s"),
        ({"gpus_per_node": 0}, "gpus_per_node"),
        ({"options": ["--nodes=3"]}, "options"),
        ({"gpus_per_node": 1.5}, "gpus_per_node"),
        ({"options": ["-N3"]}, "options"),
        ({"options": ["-QN3"]}, "options"),
        ({"options": ["--tim=99999"]}, "options"),
        ({"options": ["--job-n=x"]}, "options"),
        ({"options": ["--"]}, "options"),
        ({"options": ["sh"]}, "options"),
    ],
)
async def test_what_makes_no_sense_is_refused(wrong: dict[str, object], word: str) -> None:
    with pytest.raises((ValueError, TypeError), match=word):
        async with slurm_allocation("login", **{"nodes": 1, "time_s": 60.0, **wrong}):  # type: ignore[arg-type]
            pass
