"""An environment in which something runs stays what it was, whatever is deployed meanwhile, and goes afterwards."""

import contextlib
import fcntl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.fleet.clean import clean
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import fan_out, wait_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.jobs import read_log, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed
from asyncdeploy.values.workspace import Site, Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.envs import write_wheel
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import find, need
from tests.support.waiting import eventually

OFFLINE = ("export UV_OFFLINE=1", "export UV_PYTHON_DOWNLOADS=never")
TRAIN = """
import os, pathlib, subprocess, sys, time
out = pathlib.Path(os.environ["OUT"])
(out / "begun").touch()
while not (out / "go").exists():
    time.sleep(0.02)
import a_lib
child = "import a_lib; print(a_lib.NAME)"
seen = [subprocess.run(words, capture_output=True, text=True).stdout.strip() for words in
        (["python", "-c", child], [sys.executable, "-c", child], ["a-lib-tool"])]
print(a_lib.NAME, *seen, flush=True)
"""


@pytest.fixture
def sshd(sshd_nodes: Sequence[SshdNode]) -> SshdNode:
    """One node."""
    return sshd_nodes[0]


@pytest.fixture
def workspace(project: Path, tmp_path: Path) -> Workspace:
    """A project that two requirement files serve, each with another wheel of the same module."""
    for name in ("one", "two", "three"):
        write_wheel(project / name, "a-lib", said=name)
        (project / f"{name}.txt").write_text(f"./{name}/a_lib-1.0-py3-none-any.whl\n")
    (project / "train.py").write_text(TRAIN)
    return Workspace(project, remote_path=f"~/{tmp_path.name}")


def env_of(name: str) -> UvEnv:
    return UvEnv(requirements=f"{name}.txt", pre=OFFLINE)


def kept(deployment: Deployment) -> list[Path]:
    """The environments of a site that are there."""
    return sorted(path.parent for path in Path(deployment.site.path).glob(".asyncdeploy/venv-*/*/pyvenv.cfg"))


async def test_e4_a_job_s_later_imports_and_children_come_from_its_own_environment(
    sshd: SshdNode, pool: Pool, workspace: Workspace, tmp_path: Path
) -> None:
    deployed = await deploy_project(pool, sshd.node, workspace, env_of("one"))
    command = Command("python train.py", env={"OUT": str(tmp_path)})
    job = await start_in_project(pool, deployed, command, name="train")
    await eventually((tmp_path / "begun").exists, "the job runs")
    for name in ("two", "three"):
        (later,) = (await deploy_all([sshd.node], workspace, env_of(name), pool=pool)).unwrap()
    assert (await run_in_project(pool, later, "python -c 'import a_lib; print(a_lib.NAME)'")).text == "three"
    assert len(kept(later)) == 2, "the job's, and the one that was made last"
    (tmp_path / "go").touch()
    status = await wait_job(pool.at(sshd.node), job)
    assert status.exit_status == 0
    assert (await read_log(pool.at(sshd.node), job, 1000)).split() == ["one"] * 4
    await deploy_all([sshd.node], workspace, env_of("three"), pool=pool)
    assert len(kept(later)) == 1, "nobody runs in the job's any more"


async def test_e4_ranks_of_a_launch_too_whose_variables_are_gone(
    sshd: SshdNode, pool: Pool, workspace: Workspace, tmp_path: Path
) -> None:
    # Of a rank whose variables are gone only the words and those above it speak.
    hidden = f"exec env -i OUT={tmp_path} PATH=$PATH python train.py"
    launch = await fan_out([sshd.node], workspace, Ranks(hidden, nproc_per_node=2), env_of("one"), pool=pool)
    await eventually((tmp_path / "begun").exists, "the ranks run")
    await deploy_all([sshd.node], workspace, env_of("two"), pool=pool)
    (tmp_path / "go").touch()
    (await wait_launch(launch, pool=pool)).unwrap()
    log = await read_log(pool.at(sshd.node), launch.jobs[0], 1000)
    assert log.replace("[local0]:", "").replace("[local1]:", "").split() == ["one"] * 8


async def test_e4_a_lock_keeps_it_where_no_process_is_seen(remote: ShellRemote, site: Site, folder: Path) -> None:
    """As through a container, or a home that machines share: who holds it here has no variable that names it."""
    await bootstrap_env(remote, site, UvEnv())
    first = (folder / ".venv").readlink()
    with Path(f"{first}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        for line in ("true", ": again"):
            await bootstrap_env(remote, site, UvEnv(pre=line))
            assert (first / "pyvenv.cfg").exists()
    await bootstrap_env(remote, site, UvEnv(pre=": again"))
    assert not first.exists()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
async def test_the_environment_is_held_in_every_shell(
    remote: ShellRemote, site: Site, folder: Path, tmp_path: Path, shell: str
) -> None:
    need(shell)
    await bootstrap_env(remote, site, UvEnv())
    facts = await probe_node(remote)
    line = UvEnv().enter(Command('echo "$VIRTUAL_ENV"; read -r _'), site, facts).line
    words = [shell, "sh", "-c", line] if shell == "busybox" else [shell, "-c", line]
    # Where no flock is, the environment's own Python locks.
    for path in ("/usr/bin:/bin", str(only_readlink(tmp_path))):
        with subprocess.Popen(
            [str(find(words[0])), *words[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": path}
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            venv = process.stdout.readline().decode().strip()
            assert Path(venv) == (folder / ".venv").readlink()
            with Path(f"{venv}.lock").open("a") as lock:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                process.stdin.close()
                process.wait()
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def only_readlink(folder: Path) -> Path:
    """A folder of programs with nothing but readlink."""
    (folder / "tools").mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "tools" / "readlink").symlink_to(str(find("readlink")))
    return folder / "tools"


async def test_a_folder_made_by_hand_is_not_taken_from_what_runs_in_it(
    remote: ShellRemote, site: Site, folder: Path
) -> None:
    subprocess.run([find_uv_binary().path, "venv", "-q", folder / ".venv"], check=True, env=remote.env)
    runs = subprocess.Popen([folder / ".venv/bin/python", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(BootstrapFailed, match="switch") as caught:
            await bootstrap_env(remote, site, UvEnv())
        assert f"{runs.pid} python runs in it" in caught.value.evidence
        assert not (folder / ".venv").is_symlink()
    finally:
        runs.communicate()
    await bootstrap_env(remote, site, UvEnv())
    assert (folder / ".venv").is_symlink()


async def test_without_hard_links_a_new_one_is_made_all_the_same(remote: ShellRemote, site: Site, folder: Path) -> None:
    bin_ = remote.home / "no-links"
    bin_.mkdir()
    (bin_ / "ln").write_text("#!/bin/sh\nexit 1\n")
    (bin_ / "ln").chmod(0o755)
    remote.env["PATH"] = f"{bin_}:{remote.env['PATH']}"
    await bootstrap_env(remote, site, UvEnv())
    before = (folder / ".venv").readlink()
    await bootstrap_env(remote, site, UvEnv(post="true"))
    assert (folder / ".venv").readlink() != before


async def test_cleaning_takes_an_environment_that_no_project_is_led_to_and_nobody_runs_in(
    sshd: SshdNode, pool: Pool, workspace: Workspace, tmp_path: Path
) -> None:
    deployed = await deploy_project(pool, sshd.node, workspace, env_of("one"))
    command = Command("touch $OUT/begun; until [ -e $OUT/go ]; do sleep 0.05; done", env={"OUT": str(tmp_path)})
    job = await start_in_project(pool, deployed, command, name="train")
    await eventually((tmp_path / "begun").exists, "the job runs")
    later = await deploy_project(pool, sshd.node, workspace, env_of("two"))

    async def cleaned() -> list[str]:
        (found,) = (await clean(sshd.node, older_than_s=0, pool=pool)).values
        return [item.kept for item in found.items if item.kind == "environment"]

    for venv in kept(later):
        (venv.parent / f"{venv.name}.lock").touch()
    (why,) = await cleaned()
    assert why.endswith("runs in it")
    (tmp_path / "go").touch()
    await wait_job(pool.at(sshd.node), job)
    (Path(later.site.path) / "elsewhere").mkdir()  # a site with something of a person's in it
    (Path(later.site.path) / "elsewhere" / "notes").touch()
    (found,) = (await clean(sshd.node, older_than_s=0, dry_run=True, pool=pool)).values
    assert "site" in [item.kind for item in found.items]
    assert len(kept(later)) == 2
    await clean(sshd.node, older_than_s=0, pool=pool)
    assert kept(later) == []
    assert [path.name for path in Path(later.site.path).iterdir() if path.name != ".asyncdeploy"] == ["elsewhere"]
