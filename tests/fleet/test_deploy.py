"""Ring 4: one node from bare to running over real sshd, and what a dead, a slow or a shared one does to that."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.fleet.deploy import deploy_all, deploy_and_run
from asyncdeploy.fleet.launch import fan_out
from asyncdeploy.fleet.plan import plan_all
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.nodes.node import Node
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.transport import Channel, Connection, Route
from asyncdeploy.run.jobs import job_status, stop_job
from asyncdeploy.values.errors import BootstrapFailed, ConnectionLost, WorkspaceBusy
from asyncdeploy.values.events import Event, OutputLine, StageFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.envs import write_project
from tests.support.events import details
from tests.support.remotes.killing import killing
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import missing, need_root
from tests.support.waiting import eventually, is_alive

# Nothing of ours goes over SSH by itself; where this machine reaches the package index through these, its nodes do too.
OURS = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
EXPORTS = tuple(f"export {name}='{os.environ[name]}'" for name in OURS if name in os.environ)


class Counted:
    """A real connector that counts the channels opened and the calls sent over them."""

    def __init__(self, known_hosts: Path) -> None:
        self.inner = AsyncsshConnector(HostKeys.strict(known_hosts))
        self.opens = 0
        self.calls: list[bytes] = []

    async def resolve(self, node: Node) -> Route:
        return await self.inner.resolve(node)

    async def connect(self, node: Node, through: Connection | None = None) -> "CountedConnection":
        return CountedConnection(self, await self.inner.connect(node, through))


class CountedConnection:
    """One of its connections."""

    def __init__(self, counted: Counted, inner: Connection) -> None:
        self.counted, self.inner = counted, inner
        self.close = inner.close

    @property
    def alive(self) -> bool:
        return self.inner.alive

    def owes_s(self) -> float:
        return self.inner.owes_s()

    async def open(self, line: str) -> "CountedChannel":
        self.counted.opens += 1
        return CountedChannel(self.counted, await self.inner.open(line))


class CountedChannel:
    """One of their channels."""

    def __init__(self, counted: Counted, inner: Channel) -> None:
        self.counted, self.inner = counted, inner
        self.reused = False
        self.notes: dict[str, object] = {}

    def quiet_s(self) -> float:
        return self.inner.quiet_s()

    def send(self, data: bytes) -> None:
        if data[:1] == b"C":
            self.counted.calls.append(data[5:].partition(b"\0")[0])
        self.inner.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def counted(sshd_nodes: Sequence[SshdNode]) -> Counted:
    """Counts what goes to the nodes."""
    return Counted(sshd_nodes[0].known_hosts)


@pytest.fixture
def events() -> list[Event]:
    """What the pool's observer saw."""
    return []


@pytest.fixture
async def pool(counted: Counted, events: list[Event]) -> AsyncIterator[Pool]:
    """A pool over the session's nodes."""
    async with Pool(connector=counted, observer=events.append) as pool:
        yield pool
    await counted.inner.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an extra; all its wheels lie in it."""
    folder = tmp_path / "proj"
    folder.mkdir()
    write_project(folder, ("base-lib",), train=("train-lib",))
    return folder


async def imports(pool: Pool, deployment: Deployment, module: str) -> bool:
    return (await run_in_project(pool, deployment, f"python -c 'import {module}'")).ok


# --- uv on bare nodes


async def test_a_bare_node_gets_uv_and_the_project_with_its_extra(
    pool: Pool, counted: Counted, events: list[Event], sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    sshd, env = sshd_nodes[0], UvEnv("train", pre="export UV_OFFLINE=1")
    deployment = await deploy_project(pool, sshd.node, project, env)
    if deployment.facts.tool("uv"):
        missing("needs a machine whose system folders hold no uv")
    (sent,) = (sshd.home / ".asyncdeploy/tools").rglob("uv")
    assert sent.read_bytes() == find_uv_binary().path.read_bytes()
    assert sent.stat().st_mode & 0o777 == 0o755
    opens, before = counted.opens, len(counted.calls)
    assert await imports(pool, deployment, "base_lib, train_lib")
    assert await deploy_project(pool, sshd.node, project, env) == deployment
    # A run, an unchanged push and an unchanged environment: a request and an answer each, and no new channel.
    assert counted.calls[before:] == [b"run.run", b"push.receiver", b"run.run"]
    assert counted.opens == opens
    assert (details(events, "push")[-1], details(events, "env")[-1]) == ("= unchanged", "= unchanged")
    shutil.rmtree((sshd.home / "proj/.venv").resolve())
    await deploy_project(pool, sshd.node, project, env)
    assert await imports(pool, deployment, "base_lib, train_lib")
    assert details(events, "push")[-1] == "= unchanged"


async def test_an_extra_comes_from_the_real_index_by_its_name(
    pool: Pool, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "named"\nversion = "1"\nrequires-python = ">=3.8"\n'
        '[project.optional-dependencies]\ntrain = ["iniconfig==2.0.0"]\n[tool.uv]\npackage = false\n'
    )
    try:
        deployment = await deploy_project(pool, sshd_nodes[0].node, folder, UvEnv("train", pre=EXPORTS))
    except BootstrapFailed as error:
        if "cannot reach the package index" in error.hint:
            missing(f"needs a package index: {error.evidence}")
        raise
    assert await imports(pool, deployment, "iniconfig")
    bare = await deploy_project(pool, sshd_nodes[0].node, folder, UvEnv(pre=EXPORTS))
    assert not await imports(pool, bare, "iniconfig")


async def test_one_node_that_fails_is_told_with_its_step_and_costs_the_others_nothing(
    pool: Pool, events: list[Event], sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:3]]
    bad = 'case $HOME in */node-1/*) echo looking; echo "cp: No space left on device" >&2; (exit 7) ;; esac'
    report = await deploy_all(nodes, project, UvEnv(pre=("export UV_OFFLINE=1", bad)), pool=pool)
    assert [outcome.state for outcome in report] == ["ok", "failed", "ok"]
    error = report["node-1"].error
    assert isinstance(error, BootstrapFailed)
    assert (error.node, error.status) == ("node-1", 7)
    assert error.step.startswith("pre: case $HOME")
    assert error.evidence.splitlines() == ["looking", "cp: No space left on device"]
    assert "GB free" in error.hint
    assert error.message in str(error)
    assert [event.node for event in events if isinstance(event, StageFailed) and event.stage == "env"] == ["node-1"]
    assert not (sshd_nodes[1].home / "proj/.asyncdeploy/env").exists()
    for deployment in report.values:
        assert await imports(pool, deployment, "base_lib")


async def test_a_cancelled_bootstrap_ends_its_step_and_the_old_environment_works(
    pool: Pool, events: list[Event], sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    sshd, offline = sshd_nodes[0], "export UV_OFFLINE=1"
    deployment = await deploy_project(pool, sshd.node, project, UvEnv(pre=offline))
    slow = UvEnv("train", pre=(offline, "echo $$; trap '' TERM; (trap '' TERM; echo $$; sleep 1000); sleep 1000"))
    task = asyncio.create_task(deploy_project(pool, sshd.node, project, slow))
    await eventually(lambda: sum(isinstance(event, OutputLine) and event.text.isdigit() for event in events) == 2)
    pids = [int(event.text) for event in events if isinstance(event, OutputLine) and event.text.isdigit()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not any(map(is_alive, pids)), "the step has ended")
    assert not (sshd.home / "proj/.asyncdeploy/env").exists()
    assert await imports(pool, deployment, "base_lib")
    await deploy_project(pool, sshd.node, project, UvEnv("train", pre=offline))
    assert await imports(pool, deployment, "train_lib")


async def test_two_machines_that_share_a_home_make_one_whole_environment(
    start_sshd: Callable[..., SshdNode], project: Path
) -> None:
    need_root()
    first = start_sshd("one", own_pids=True)
    second = start_sshd("two", home=first.home, own_pids=True)
    events: list[Event] = []
    async with Pool(host_keys=HostKeys.strict(first.known_hosts), observer=events.append) as pool:
        env = UvEnv("train", pre=("export UV_OFFLINE=1", "echo made >>log"))
        deployments = (await deploy_all([first.node, second.node], project, env, pool=pool)).unwrap()
        for deployment in deployments:
            assert await imports(pool, deployment, "base_lib, train_lib")
    assert (first.home / "proj/log").read_text() == "made\n"
    (tool,) = (first.home / ".asyncdeploy/tools").iterdir()
    assert [path.name for path in tool.iterdir()] == ["uv"]
    made = [detail for detail in details(events, "env") if not detail.startswith("= ")]
    assert len(made) == 1  # the other one found it made, sooner or later


# --- a swap that died, and jobs in the way


async def test_a_swap_that_died_is_finished_before_anything_runs_in_it(
    pool: Pool, counted: Counted, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    sshd, folder = sshd_nodes[0], tmp_path / "proj"
    folder.mkdir()
    workspace, site = Workspace(folder), sshd.home / "proj"
    for text in ("old", "new", "newer"):
        for name in ("a", "b", "c"):
            (folder / name).write_text(text)
        if text == "old":
            deployment = await deploy_project(pool, sshd.node, workspace, SystemEnv())
            assert (await run_in_project(pool, deployment, "cat a b c")).text == "oldoldold"
            assert counted.calls.count(b"push.receiver") == 1
            continue
        async with ShellRemote(sshd.home, shell=killing("renameat", 3)) as doomed:
            with pytest.raises(ConnectionLost):
                await push_code(doomed, workspace)
        assert (site / ".asyncdeploy/journal").exists()
        assert len({(site / name).read_text() for name in ("a", "b", "c")}) == 2
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as later:
            if text == "new":
                assert (await run_in_project(later, deployment, "cat a b c")).text == text * 3
            else:
                job = await start_in_project(later, deployment, "cat a b c >seen; sleep 1000", name="reads")
                await eventually(lambda: (site / "seen").exists() and (site / "seen").read_text() == "newer" * 3)
                await stop_job(later.at(sshd.node), job)
        assert not (site / ".asyncdeploy/journal").exists()


async def test_e8_a_running_job_keeps_changes_out_unless_told_otherwise(
    pool: Pool, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    sshd, folder = sshd_nodes[0], tmp_path / "proj"
    folder.mkdir()
    (folder / "a").write_text("old")
    deployment = await deploy_project(pool, sshd.node, folder, SystemEnv())
    job = await start_in_project(pool, deployment, "sleep 1000", name="train")
    remote = pool.at(sshd.node)
    await push_code(remote, folder)
    (folder / "a").write_text("new")
    with pytest.raises(WorkspaceBusy, match=job.id) as caught:
        await deploy_project(pool, sshd.node, folder, SystemEnv())
    assert "under_jobs" in caught.value.hint
    assert (sshd.home / "proj/a").read_text() == "old"
    await push_code(remote, Workspace(folder, under_jobs="overwrite"))
    assert (sshd.home / "proj/a").read_text() == "new"
    assert (await job_status(remote, job)).state == "running"
    (folder / "a").write_text("newer")
    await stop_job(remote, job)
    await push_code(remote, folder)
    assert (sshd.home / "proj/a").read_text() == "newer"


async def test_a_wrong_extra_is_refused_before_anything_is_sent(
    start_sshd: Callable[..., SshdNode], tmp_path: Path
) -> None:
    sshd = start_sshd("gpu-a")
    (tmp_path / "app").mkdir()
    text = '[project]\nname = "app"\n[project.optional-dependencies]\ntest = []\n'
    (tmp_path / "app" / "pyproject.toml").write_text(text)
    workspace, env = Workspace(tmp_path / "app"), UvEnv(extra=("tset",))
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        for attempt in (
            lambda: deploy_project(pool, sshd.node, workspace, env),
            lambda: deploy_all([sshd.node], workspace, env, pool=pool),
            lambda: deploy_and_run([sshd.node], workspace, "true", env, pool=pool),
            lambda: fan_out([sshd.node], workspace, Torchrun("train.py"), env, pool=pool),
            lambda: plan_all([sshd.node], workspace, env, pool=pool),
        ):
            with pytest.raises(ValueError, match="did you mean 'test'"):
                await attempt()
    assert not (sshd.home / "app").exists()
