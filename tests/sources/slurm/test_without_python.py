"""A step of Slurm on a node without python3: nothing there would stay for a detached job, so none is begun."""

from pathlib import Path

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import start_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError
from tests.support.remotes.shell_remote import ShellRemote


async def test_a_detached_job_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with ShellRemote(home, python=False) as remote:
        remote.env["ASYNCDEPLOY_STEP"] = "1"
        assert (await run_command(remote, Command("echo in"))).text == "in"
        with pytest.raises(DeployError, match="in a step of a Slurm job it would end with this call"):
            await start_job(remote, Command("touch began"), name="no")
    assert not (home / "began").exists()
    assert not [*(home / ".asyncdeploy" / "jobs").glob("no-*")]
