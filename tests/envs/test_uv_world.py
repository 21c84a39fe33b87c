"""UvEnv with a real uv and an index. G10: whatever happens to a bootstrap, what stood before works on, whole."""

import asyncio
import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed, DeployError
from asyncdeploy.values.workspace import Site
from tests.support.beds.index import Index, write_release
from tests.support.beds.sshd import SshdNode
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root

PROJECT = '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = [{!r}]\n'
VERSION = "import parts_lib; print(parts_lib.VERSION)"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    for version in ("1.0", "2.0"):
        write_release(tmp_path / "wheels", "parts-lib", version, files=150)
    with Index(tmp_path / "wheels") as index:
        yield index


@pytest.fixture
def remote(remote: ShellRemote, index: Index) -> ShellRemote:
    """A node that knows no other index than ours."""
    del remote.env["UV_OFFLINE"]
    remote.env |= quick(index)
    return remote


def quick(index: Index) -> dict[str, str]:
    """What uv is told on a node: our index, and to give up at once."""
    told = {"UV_DEFAULT_INDEX": index.url, "UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": "0", "UV_NO_CONFIG": "1"}
    return {**told, "PIP_CONFIG_FILE": os.devnull}


def ask_for(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(f"parts-lib=={version}"))


async def version(remote: ShellRemote, site: Site) -> str:
    """Which version runs in the project, if all its parts are of one."""
    facts = await probe_node(remote)
    command = UvEnv().enter(Command.of("python", "-c", VERSION), site, facts)
    return (await run_command(remote, command, check=True)).text.strip()


async def fails(remote: ShellRemote, site: Site) -> BootstrapFailed:
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, UvEnv())
    return caught.value


async def test_g10_an_index_that_is_down(remote: ShellRemote, folder: Path, index: Index) -> None:
    site = Site(str(folder))
    ask_for(folder, "1.0")
    await bootstrap_env(remote, site, UvEnv())
    ask_for(folder, "2.0")
    index.status = 503
    error = await fails(remote, site)
    assert (error.step, error.status) == ("uv sync", 2)
    assert "503" in error.evidence
    assert "index" in error.hint
    assert await version(remote, site) == "1.0"
    index.status = 200
    await bootstrap_env(remote, site, UvEnv())
    assert await version(remote, site) == "2.0"
    index.close()
    ask_for(folder, "3.0")
    error = await fails(remote, site)
    assert "Connection refused" in error.evidence
    assert "network" in error.hint
    assert await version(remote, site) == "2.0"


async def test_g10_a_package_that_is_not_what_the_lock_says(
    remote: ShellRemote, folder: Path, index: Index, tmp_path: Path
) -> None:
    site = Site(str(folder))
    ask_for(folder, "1.0")
    await bootstrap_env(remote, site, UvEnv())
    ask_for(folder, "2.0")
    words = [find_uv_binary().path, "lock", "-q", "--cache-dir", str(tmp_path / "cache")]
    subprocess.run(words, cwd=folder, check=True, env=remote.env)
    write_release(index.wheels, "parts-lib", "2.0", files=3)
    error = await fails(remote, site)
    assert "Hash mismatch" in error.evidence
    assert "uv lock" in error.hint
    assert await version(remote, site) == "1.0"


async def test_g10_a_full_disk(remote: ShellRemote, folder: Path, index: Index) -> None:
    need_root()
    need("mount")
    write_release(index.wheels, "parts-lib", "3.0", files=20, size=1_000_000)
    place = remote.home / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(place)], check=True)
    try:
        site = Site(str(place / "proj"))
        ask_for(place / "proj", "1.0")
        await bootstrap_env(remote, site, UvEnv())
        ask_for(place / "proj", "3.0")
        error = await fails(remote, site)
        assert "GB free" in error.hint
        assert await version(remote, site) == "1.0"
        ask_for(place / "proj", "2.0")
        await bootstrap_env(remote, site, UvEnv())
        assert await version(remote, site) == "2.0"
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def test_an_upgrade_goes_past_what_is_locked(remote: ShellRemote, folder: Path, index: Index) -> None:
    site = Site(str(folder))
    newer = index.wheels / "parts_lib-2.0-py3-none-any.whl"
    hidden = newer.rename(newer.with_suffix(".hidden"))
    (folder / "pyproject.toml").write_text(PROJECT.format("parts-lib"))
    await bootstrap_env(remote, site, UvEnv())
    hidden.rename(newer)
    await bootstrap_env(remote, site, UvEnv(frozen=False))
    assert await version(remote, site) == "1.0"
    await bootstrap_env(remote, site, UvEnv(upgrade=True))
    assert await version(remote, site) == "2.0"


async def test_two_deployers_at_once_make_it_once(remote: ShellRemote, folder: Path, index: Index) -> None:
    site = Site(str(folder))
    ask_for(folder, "1.0")
    async with ShellRemote(remote.home) as second:
        second.env |= quick(index)
        await asyncio.gather(*(bootstrap_env(each, site, UvEnv()) for each in (remote, second)))
        made = details([*remote.events, *second.events], "env")
    assert sorted(made) == ["2 steps", "= made by another deployer"]
    assert await version(remote, site) == "1.0"


async def test_one_made_by_hand_is_followed_by_ours(remote: ShellRemote, folder: Path, index: Index) -> None:
    site = Site(str(folder))
    ask_for(folder, "1.0")
    subprocess.run([find_uv_binary().path, "sync", "-q"], cwd=folder, check=True, env=remote.env)
    assert not (folder / ".venv").is_symlink()
    (folder / "uv.lock").unlink()
    ask_for(folder, "2.0")
    index.status = 503
    await fails(remote, site)
    assert await version(remote, site) == "1.0"
    index.status = 200
    await bootstrap_env(remote, site, UvEnv())
    assert await version(remote, site) == "2.0"
    assert (folder / ".venv").is_symlink()
    (kept,) = (folder / ".asyncdeploy").glob("venv-*")
    assert [path for path in kept.iterdir() if path.is_dir()] == [(folder / ".venv").readlink()]


async def test_a_script_in_a_copied_environment_runs_by_it(remote: ShellRemote, folder: Path, index: Index) -> None:
    site = Site(str(folder))
    write_release(index.wheels, "other-lib", "1.0")
    for dependencies in ("'parts-lib==1.0'", "'parts-lib==1.0', 'other-lib'", "'parts-lib==1.0', 'other-lib>0.5'"):
        text = PROJECT.replace("[{!r}]", f"[{dependencies}]")
        (folder / "pyproject.toml").write_text(text)
        await bootstrap_env(remote, site, UvEnv(post="parts-lib >&2 || test $? = 1"))
    (kept,) = (folder / ".asyncdeploy").glob("venv-*")
    assert [path for path in kept.iterdir() if path.is_dir()] == [(folder / ".venv").readlink()], "no more than is used"
    facts = await probe_node(remote)
    assert (await run_command(remote, UvEnv().enter(Command("parts-lib"), site, facts))).status == 1


@pytest.mark.parametrize("round_", range(2))
async def test_g10_a_node_that_dies_midway_keeps_the_old_or_has_the_new(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path, index: Index, round_: int
) -> None:
    sshd, project = sshd_nodes[round_], tmp_path / "proj"
    env = UvEnv(pre=tuple(f"export {name}={value}" for name, value in quick(index).items()))

    async def deploy(wanted: str) -> Deployment:
        ask_for(project, wanted)
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
            return await deploy_project(pool, sshd.node, project, env)

    async def found(deployment: Deployment) -> str:
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
            return (await run_in_project(pool, deployment, f"python -c '{VERSION}'")).check().text.strip()

    deployment = await deploy("1.0")
    began = time.monotonic()
    await deploy("2.0")
    took, stands = time.monotonic() - began, "2.0"
    dice = random.Random(round_)
    for _ in range(6):
        wanted = "1.0" if stands == "2.0" else "2.0"
        task = asyncio.create_task(deploy(wanted))
        await asyncio.wait([task], timeout=dice.uniform(0.2, 1.0) * took)
        sshd.sweep()
        try:
            await task
        except DeployError:
            pass
        else:
            stands = wanted
        seen = await found(deployment)
        assert seen in (stands, wanted)
        stands = seen
    await deploy("1.0")
    assert await found(deployment) == "1.0"
