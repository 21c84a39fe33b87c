"""Jobs where logind ends what a user runs at logout: said, and never passed over."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.gang.watch import watch_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.node_side.run.outlive import in_session, kills, removes_ipc
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.jobs import LOGOUT, start_job, wait_job
from asyncdeploy.values.events import Event
from asyncdeploy.values.workspace import Site
from tests.support import tools
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes

YES = "KillUserProcesses=yes\nKillExcludeUsers=root\nKillOnlyUsers=\n"


def test_what_counts_is_the_control_group() -> None:
    assert in_session("0::/user.slice/user-1000.slice/session-4.scope\n")
    assert in_session("12:pids:/x\n1:name=systemd:/user.slice/user-0.slice/session-c2.scope\n0::/\n")
    assert not in_session("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope\n")
    assert not in_session("0::/docker/1234\n")
    assert not in_session("")


@pytest.mark.parametrize(
    "settings, user, killed",
    [
        (YES, "ann", True),
        (YES, "root", False),
        (YES.replace("OnlyUsers=", "OnlyUsers=bob ann"), "ann", True),
        (YES.replace("OnlyUsers=", "OnlyUsers=bob"), "ann", False),
        (YES.replace("=yes", "=no"), "ann", False),
        ("", "ann", False),
    ],
)
def test_for_whom_logind_does_it(settings: str, user: str, killed: bool) -> None:
    assert kills(settings, user) is killed


@pytest.mark.parametrize(
    "settings, uid, lingers, removed",
    [
        (YES + "RemoveIPC=yes\n", 1000, False, True),
        (YES + "RemoveIPC=yes\n", 1000, True, False),
        (YES + "RemoveIPC=yes\n", 0, False, False),
        (YES + "RemoveIPC=no\n", 1000, False, False),
        ("", 1000, False, False),
    ],
)
def test_j14_whose_shared_memory_logind_takes_away(settings: str, uid: int, lingers: bool, removed: bool) -> None:
    assert removes_ipc(settings, uid, lingers) is removed


async def test_j14_of_root_s_shared_memory_nothing_goes(sshd_test_bed: SshdBed, session: Path, tmp_path: Path) -> None:
    """A real control group; logind's answer is played by a script."""
    tool = tmp_path / "loginctl"
    tool.write_text("#!/bin/sh\necho RemoveIPC=yes\n")
    tool.chmod(0o755)
    seen: list[Event] = []
    sshd = sshd_test_bed.start("strict", config={"SetEnv": f"PATH={tmp_path}:{os.environ['PATH']}"})
    (session / "cgroup.procs").write_text(str(sshd.pid))
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=seen.append) as pool:
        job = await start_job(pool.at(sshd.node), "true", name="shares")
        await wait_job(pool.at(sshd.node), job)
    assert job.survives_logout
    assert job.keeps_shared_memory
    assert notes(seen) == []


@pytest.fixture
def session() -> Iterator[Path]:
    """A control group of the name that logind gives a session's; of root's, so that a real node can be put into it."""
    tools.need_root()
    roots = [Path(path) for path in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")]
    root = next((path for path in roots if (path / "cgroup.procs").exists()), None)
    if root is None:
        pytest.skip("no control groups here")
    slice_ = root / f"asyncdeploy-test-{os.getpid()}.slice"
    scope = slice_ / "session-7.scope"
    try:
        scope.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield scope
    for folder in (scope, slice_):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (root / "cgroup.procs").write_text(pid)
        folder.rmdir()


async def test_a_job_that_will_not_survive_says_so(sshd_test_bed: SshdBed, session: Path, tmp_path: Path) -> None:
    """A real control group; logind's answer is played by a script."""
    tool = tmp_path / "loginctl"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{YES.replace('root', 'nobody')}END\n")
    tool.chmod(0o755)
    sshd = sshd_test_bed.start("strict", config={"SetEnv": f"PATH={tmp_path}:{os.environ['PATH']}"})
    seen: list[Event] = []
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=seen.append) as pool:
        remote = pool.at(sshd.node)
        plain = await start_job(remote, "true", name="plain")
        await wait_job(remote, plain)
    (session / "cgroup.procs").write_text(str(sshd.pid))
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=seen.append) as pool:
        remote = pool.at(sshd.node)
        job = await start_job(remote, "true", name="mortal")
        await wait_job(remote, job)
        (launched,) = (await start(pool, sshd)).jobs
    assert plain.survives_logout
    assert not job.survives_logout
    assert not launched.survives_logout
    assert notes(seen) == [f"job {each.id} {LOGOUT}" for each in (job, launched)]


async def start(pool: Pool, sshd: SshdNode) -> Launch:
    facts = await probe_node(pool.at(sshd.node))
    deployment = Deployment(sshd.node, Site(str(sshd.home)), SystemEnv(), facts)
    launch = await start_launch(pool, [deployment], Ranks("true", nproc_per_node=1))
    (await watch_launch(pool, launch)).unwrap()
    return launch
