"""R20, P6: full, read-only and missing folders of a node are said in words of its user, and cost nobody time."""

from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need_root

StartSshd = Callable[..., SshdNode]
FULL_TMP = {"/tmp": "full", "/var/tmp": "full"}
LARGE = b"x" * 3_000_000


def is_plain(error: BaseException | None) -> bool:
    """Whether an error speaks of the node's disk and not of our programs."""
    said = error.describe() if isinstance(error, ad.DeployError) else str(error)
    return error is not None and "Traceback" not in said and "Errno" not in said and "our program" not in said


async def test_r20_a_full_tmp_is_no_reason_not_to_run(start_sshd: StartSshd, project: Path) -> None:
    need_root()
    sshd = start_sshd("full", disks=FULL_TMP)
    (project / "a.txt").write_text("a\n")
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        for data in (b"x" * 10, LARGE):
            done = await ad.run_command(remote, ad.Command("wc -c", stdin=data))
            assert int(done.stdout) == len(data)
        job = await ad.start_job(remote, ad.Command("wc -c", stdin=LARGE), name="counts")
        assert (await ad.wait_job(remote, job)).ok
        assert (await ad.deploy_and_run(sshd.node, project, "cat a.txt", ad.SystemEnv(), pool=pool)).ok


async def test_r20_no_room_anywhere_is_said_with_the_folders(start_sshd: StartSshd) -> None:
    need_root()
    sshd = start_sshd("full", disks={**FULL_TMP, "~": "full"})
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        assert (await ad.run_command(remote, ad.Command("cat", stdin=b"small"))).stdout == b"small"
        with pytest.raises(ad.CommandFailed, match=r"no room for its input: /tmp \(No space left") as caught:
            await ad.run_command(remote, ad.Command("cat > /dev/null", stdin=LARGE))
        assert is_plain(caught.value)
        with pytest.raises(ad.JobFailed, match="No space left") as failed:
            await ad.start_job(remote, "true", name="job")
        assert is_plain(failed.value)
        assert await ad.list_jobs(remote) == ()


@pytest.mark.parametrize("state", ["full", "read-only"])
async def test_p6_a_home_that_takes_nothing(state: str, start_sshd: StartSshd, project: Path) -> None:
    need_root()
    sshd = start_sshd("closed", disks={"~": state})
    (project / "a.txt").write_text("a\n" * 100_000)
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        assert (await ad.run_command(remote, "echo in")).stdout == b"in\n"
        assert await ad.list_jobs(remote) == ()
        for call in (ad.push_code(remote, ad.Workspace(project)), ad.start_job(remote, "true", name="job")):
            with pytest.raises(ad.DeployError, match=r"No space left|no room|[Rr]ead-only") as caught:
                await call
            assert is_plain(caught.value)


async def test_r20_a_missing_home(start_sshd: StartSshd, tmp_path: Path) -> None:
    need_root()
    home = tmp_path / "above" / "home"
    sshd = start_sshd("homeless", home=home)
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        assert (await ad.run_command(remote, "pwd")).stdout == b"/\n"
        with pytest.raises(ad.DeployError, match="No such file") as caught:
            await ad.start_job(remote, "true", name="job")
        assert is_plain(caught.value)
        assert "home folder of the account" in caught.value.hint
    assert not home.exists()
