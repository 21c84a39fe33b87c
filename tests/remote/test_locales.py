"""Ring 4: a node whose login has a locale of one byte a letter (R17): names are bytes, the same on both sides."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import find_job, read_log, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import WorkspaceBusy
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.pools import at
from tests.support.beds.sshd import SshdBed, without_python
from tests.support.odd_nodes import locales
from tests.support.tools import need_root

NAME = "sité €"


@pytest.fixture(params=["python", "sh"])
async def latin(request: pytest.FixtureRequest, sshd_test_bed: SshdBed) -> AsyncIterator[tuple[Remote, Path]]:
    """A node with such a login and a home with such a name, and that home."""
    need_root()
    home = sshd_test_bed.folder / "hüm€"
    home.mkdir()
    files = without_python() if request.param == "sh" else {}
    sshd = sshd_test_bed.start("latin", home=home, config={"SetEnv": locales.latin1(sshd_test_bed)}, files=files)
    async with at(sshd) as remote:
        assert (await run_command(remote, "locale charmap", check=True)).text == "ISO-8859-1"
        yield remote, home


async def test_r17_home_and_working_folders(latin: tuple[Remote, Path]) -> None:
    remote, home = latin
    assert (await probe_node(remote)).home == str(home)
    (home / NAME).mkdir()
    for cwd in (f"~/{NAME}", f"{home}/{NAME}"):
        assert (await run_command(remote, Command("pwd", cwd=cwd), check=True)).text == f"{home}/{NAME}"
        job = await start_job(remote, Command("pwd; echo ü", cwd=cwd), name="shows")
        assert (await wait_job(remote, job, timeout_s=30)).ok
        assert await read_log(remote, job) == f"{home}/{NAME}\nü\n"


async def test_r17_a_push_sees_the_job_that_runs_in_a_site(latin: tuple[Remote, Path], project: Path) -> None:
    remote, home = latin
    (project / f"{NAME}.py").write_text("1\n")
    workspace = Workspace(project, remote_path=f"~/{NAME}")
    site = await push_code(remote, workspace)
    assert site.path == f"{home}/{NAME}"
    assert (home / NAME / f"{NAME}.py").read_text() == "1\n"
    job = await start_job(remote, "until test -e ~/go; do sleep 0.05; done", name="runs", site=site)
    assert (await find_job(remote, job.id)).site == site.path
    (project / f"{NAME}.py").write_text("2\n")
    with pytest.raises(WorkspaceBusy):
        await push_code(remote, workspace)
    await stop_job(remote, job)
    await push_code(remote, workspace)
    assert (home / NAME / f"{NAME}.py").read_text() == "2\n"


async def test_r17_results_come_home_under_their_names(
    latin: tuple[Remote, Path], project: Path, tmp_path: Path
) -> None:
    remote, _ = latin
    (project / "a.py").write_text("1\n")
    async with pack_workspace(project) as bundle:
        site = await push_code(remote, bundle)
    (Path(site.path) / f"{NAME}.pt").write_text("weights")
    await sync_results(remote, site.path, tmp_path / "home")
    assert [path.read_text() for path in (tmp_path / "home").rglob(f"{NAME}.pt")] == ["weights"]
