"""Ring 4: commands and jobs where a node's disks are full, closed or not there (R20)."""

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import job_status, list_jobs, read_log, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandFailed, DeployError, JobFailed
from tests.support.beds.disks import Disk
from tests.support.beds.pools import at
from tests.support.beds.sshd import SshdBed, without_python
from tests.support.tools import need_root

LONG = b"x" * 3_000_000


@pytest.fixture(params=["python", "sh"])
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of a node with python3 and of one without."""
    return without_python() if request.param == "sh" else {}


async def test_r20_where_tmp_is_full_everything_goes_on(sshd_test_bed: SshdBed, files: dict[str, str]) -> None:
    need_root()
    sshd = sshd_test_bed.start("odd", files=files, disks={"/tmp": "full"})
    async with at(sshd) as remote:
        assert (await run_command(remote, Command("cat", stdin=b"0123456789"), check=True)).text == "0123456789"
        done = await run_command(remote, Command("cksum; wc -c </dev/null", stdin=LONG), check=True)
        assert done.text.split()[1] == str(len(LONG))
        job = await start_job(remote, Command("wc -c", stdin=LONG), name="reads")
        assert (await wait_job(remote, job, timeout_s=30)).ok
        assert await read_log(remote, job) == f"{len(LONG)}\n"


async def test_r20_an_input_for_which_there_is_no_room_is_told_with_what_is_full(
    sshd_test_bed: SshdBed, files: dict[str, str]
) -> None:
    need_root()
    disks = dict.fromkeys(("/tmp", "/var/tmp", "/dev/shm", "~"), "full")
    sshd = sshd_test_bed.start("odd", files=files, disks=disks)
    async with at(sshd) as remote:
        with pytest.raises(CommandFailed, match=rf"no room for its input.* /tmp.*{sshd.home}.*: cat"):
            await run_command(remote, Command("cat", stdin=LONG))
        with pytest.raises(JobFailed, match=r"could not be started: no room for its input.* /tmp"):
            await start_job(remote, Command("cat", stdin=LONG), name="reads")
        assert (await run_command(remote, "echo hi", check=True)).text == "hi"


@pytest.mark.parametrize("state", ["full", "read-only"])
async def test_r20_a_home_that_takes_nothing(sshd_test_bed: SshdBed, files: dict[str, str], state: Disk) -> None:
    need_root()
    sshd = sshd_test_bed.start("odd", files=files, disks={"~": state})
    async with at(sshd) as remote:
        assert (await run_command(remote, Command("cat", stdin=LONG), check=True)).stdout[:5] == b"xxxxx"
        with pytest.raises(DeployError, match=rf"{sshd.home}/\.asyncdeploy"):
            await start_job(remote, "echo hi", name="never")
        assert await list_jobs(remote) == ()


async def test_r20_a_home_that_is_not_there(sshd_test_bed: SshdBed, files: dict[str, str]) -> None:
    need_root()
    home = sshd_test_bed.folder / "gone" / "home"
    sshd = sshd_test_bed.start("odd", files=files, home=home)
    async with at(sshd) as remote:
        assert (await run_command(remote, "pwd", check=True)).text == "/"
        with pytest.raises(CommandFailed, match=r"could not be started: .*\(working folder "):
            await run_command(remote, Command("pwd", cwd="~/project"))
        with pytest.raises(DeployError, match=str(home)):
            await start_job(remote, "echo hi", name="never")
        assert await list_jobs(remote) == ()
    assert not home.exists()


async def test_r20_a_job_of_a_home_that_went_away_is_lost_and_no_error_of_ours(
    sshd_test_bed: SshdBed, files: dict[str, str]
) -> None:
    need_root()
    home = sshd_test_bed.folder / "moves"
    home.mkdir()
    sshd = sshd_test_bed.start("odd", files=files, home=home)
    async with at(sshd) as remote:
        job = await start_job(remote, "true", name="ends")
        assert (await wait_job(remote, job, timeout_s=30)).ok
        home.rename(home.with_name("moved"))
        assert (await job_status(remote, job)).state == "lost"
        assert (await wait_job(remote, job, timeout_s=5)).state == "lost"
        assert (await stop_job(remote, job)).state == "lost"
        assert await read_log(remote, job) == ""
    assert not home.exists()
