"""UvEnv with the real uv, and no network: projects whose dependencies are wheels that lie in them."""

import json
import pickle
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

from asyncdeploy.envs.base import Env
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.registry import env_from_dict, register_env
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary, read_elf, uv_asset
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed, ToolMissing
from asyncdeploy.values.events import StageFinished
from asyncdeploy.values.workspace import Site
from tests.support.envs import StepsEnv, write_project
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import missing

FACTS = NodeFacts("/home/me", "me", 1000, arch="x86_64", libc="glibc 2.36", tools={"uv": "/opt/uv"})
SITE = Site("/srv/proj")


async def run(remote: ShellRemote, site: Site, env: Env, line: str) -> str:
    facts = await probe_node(remote)
    return (await run_command(remote, env.enter(Command(line), site, facts), check=True)).text


async def has(remote: ShellRemote, site: Site, env: Env, module: str) -> bool:
    facts = await probe_node(remote)
    command = env.enter(Command.of("python", "-c", f"import {module}"), site, facts)
    return (await run_command(remote, command)).ok


# --- values


def test_it_is_data() -> None:
    env = UvEnv("train", groups=["dev"], python="3.12", frozen=True, cache_dir="~/cache", pre="module load cuda")
    assert env == UvEnv(
        ("train",), groups=("dev",), python="3.12", frozen=True, cache_dir="~/cache", pre=("module load cuda",)
    )
    assert env_from_dict(json.loads(json.dumps(env.to_dict()))) == env
    assert pickle.loads(pickle.dumps(env)) == env
    assert len({env, UvEnv(), SystemEnv()}) == 3
    assert env_from_dict(SystemEnv().to_dict()) == SystemEnv()
    assert isinstance(env, Env)
    assert isinstance(SystemEnv(), Env)


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": "a b"},
        {"extra": "-x"},
        {"extra": ""},
        {"groups": ("a;b",)},
        {"python": "--help"},
        {"python": ""},
        {"frozen": "yes"},
        {"cache_dir": "relative"},
        {"cache_dir": "/a/../b"},
        {"pre": ("",)},
        {"pre": "a\0b"},
    ],
)
def test_a_bad_value_is_refused_when_it_is_built(fields: dict[str, str]) -> None:
    with pytest.raises((ValueError, TypeError), match="UvEnv"):
        UvEnv(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data", [None, {}, {"env": "os"}, {"env": 1}, {"env": "UvEnv", "no": 1}, {"env": "SystemEnv", "a": 1}]
)
def test_data_that_is_no_environment_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"environment|UvEnv|SystemEnv"):
        env_from_dict(data)


def test_a_name_is_taken_once_and_needs_a_way_back() -> None:
    class SystemEnv:  # another one
        @classmethod
        def from_dict(cls, data: object) -> object:
            return cls()

    with pytest.raises(ValueError, match="known already"):
        register_env(SystemEnv)
    with pytest.raises(ValueError, match="from_dict"):
        register_env(StepsEnv)
    assert register_env(UvEnv) is UvEnv


def test_a_command_enters_in_the_projects_folder() -> None:
    site = Site("/srv/proj", project="libs/a")
    entered = UvEnv().enter(Command("exit 3", env={"A": "1"}, timeout_s=5), site, FACTS)
    assert entered.cwd == "/srv/proj/libs/a"
    assert entered.line.startswith("asyncdeploy_venv=/srv/proj/libs/a/.venv\n")
    assert entered.env == (("A", "1"),)
    assert entered.timeout_s == 5
    assert entered.line.endswith("\nexit 3")
    assert UvEnv().enter(Command("true", cwd="/tmp"), site, FACTS).cwd == "/tmp"
    assert SystemEnv().enter(Command("true"), site, FACTS) == Command("true", cwd="/srv/proj/libs/a")


# --- uv's own binary


def test_the_wheels_binary_is_found_with_its_hash(tmp_path: Path) -> None:
    binary = find_uv_binary()
    said = subprocess.run([binary.path, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.split()[1] == binary.version
    assert (
        subprocess.run(["sha256sum", binary.path], capture_output=True, text=True, check=True).stdout.split()[0]
        == binary.sha256
    )
    assert subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip() == binary.machine
    assert read_elf(Path("/bin/sh"))[0] == binary.machine
    (tmp_path / "script").write_text("#!/bin/sh\n")
    with pytest.raises(ToolMissing):
        read_elf(tmp_path / "script")


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "riscv64"},
        {"system": "Darwin"},
        {"libc": "musl 1.2.4"},
        {"libc": "glibc 2.12"},
        {"libc": ""},
    ],
)
def test_a_binary_that_does_not_fit_is_not_sent(change: dict[str, str]) -> None:
    binary = attrs.evolve(find_uv_binary(), machine="x86_64", loader="/lib64/ld-linux-x86-64.so.2")
    assert binary.misfit(FACTS) == ""
    assert binary.misfit(attrs.evolve(FACTS, **change)) != ""
    assert attrs.evolve(binary, loader="").misfit(attrs.evolve(FACTS, libc="")) == ""


def test_a_node_with_uv_needs_nothing_and_one_without_gets_ours() -> None:
    assert UvEnv().assets(SITE, FACTS) == ()
    facts = attrs.evolve(FACTS, tools=(), arch=find_uv_binary().machine)
    (asset,) = UvEnv().assets(SITE, facts)
    assert asset == uv_asset(facts)
    assert asset.target.startswith("/home/me/.asyncdeploy/tools/uv-")
    assert asset.executable
    assert asset.target in UvEnv().steps(SITE, facts)[0].line
    with pytest.raises(ToolMissing, match="does not fit"):
        UvEnv().steps(SITE, attrs.evolve(facts, arch="s390x"))


# --- the real uv


async def test_an_extra_is_there_and_again_is_nothing_to_do(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("base-lib",), train=("train-lib",))
    env = UvEnv("train")
    await bootstrap_env(remote, site, env)
    assert await run(remote, site, env, "python -c 'import base_lib, train_lib; print(train_lib.NAME)'") == "train-lib"
    venv = (folder / ".venv").readlink()  # itself, not the link
    said = await run(remote, site, env, "command -v python; pwd; echo $VIRTUAL_ENV")
    assert said == f"{venv}/bin/python\n{folder}\n{venv}"
    await bootstrap_env(remote, site, env)
    assert details(remote.events, "env")[-1] == "= unchanged"
    shutil.rmtree((folder / ".venv").resolve())
    await bootstrap_env(remote, site, env)
    assert await has(remote, site, env, "train_lib")
    await bootstrap_env(remote, site, UvEnv())
    assert not await has(remote, site, env, "train_lib")


async def test_the_exit_status_and_the_line_stay_exact(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = UvEnv()
    await bootstrap_env(remote, site, env)  # no project file at all: an environment without packages
    facts = await probe_node(remote)
    for line, status in (("exit 3", 3), ("# nothing\nfalse", 1), ("python -c 'raise SystemExit(42)' # x", 42)):
        assert (await run_command(remote, env.enter(Command(line), site, facts))).status == status
    killed = await run_command(remote, env.enter(Command("kill -s KILL $$"), site, facts))
    assert (killed.status, killed.signal) == (None, "KILL")


async def test_a_failed_sync_leaves_the_old_environment_working(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("base-lib",))
    await bootstrap_env(remote, site, UvEnv())
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, UvEnv("missing"))
    assert (caught.value.step, caught.value.status) == ("uv sync", 2)
    assert "missing" in caught.value.evidence
    assert "optional-dependencies" in caught.value.hint
    assert not (folder / ".asyncdeploy" / "env").exists()
    assert await has(remote, site, UvEnv(), "base_lib")
    await bootstrap_env(remote, site, UvEnv())
    assert (folder / ".asyncdeploy" / "env").exists()


async def test_without_a_network_the_hint_says_so(remote: ShellRemote, site: Site, folder: Path) -> None:
    (folder / "requirements.txt").write_text("surely-not-cached==1.0\n")
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, UvEnv())
    assert "network" in caught.value.hint


async def test_a_pushed_lock_is_taken_as_it_is(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    uv = [find_uv_binary().path, "lock", "--offline", "--quiet"]
    subprocess.run(uv, cwd=folder, check=True, env={**remote.env})
    lock = (folder / "uv.lock").read_bytes()
    write_project(folder, ("one-lib", "two-lib"))  # the lock knows nothing of it
    await bootstrap_env(remote, site, UvEnv())
    assert not await has(remote, site, UvEnv(), "two_lib")
    assert (folder / "uv.lock").read_bytes() == lock
    await bootstrap_env(remote, site, UvEnv(frozen=False))
    assert await has(remote, site, UvEnv(), "two_lib")


async def test_a_lock_that_uv_made_on_the_node_freezes_nothing(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    await bootstrap_env(remote, site, UvEnv())
    assert (folder / "uv.lock").exists()
    write_project(folder, ("one-lib", "two-lib"))
    await bootstrap_env(remote, site, UvEnv())
    assert await has(remote, site, UvEnv(), "two_lib")
    await bootstrap_env(remote, site, UvEnv())
    assert details(remote.events, "env")[-1] == "= unchanged"


async def test_frozen_without_a_lock_says_what_to_do(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, UvEnv(frozen=True))
    assert "uv lock" in caught.value.hint


async def test_requirements_without_a_project(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib", "two-lib"))
    (folder / "pyproject.toml").unlink()
    requirements = folder / "requirements.txt"
    requirements.write_text("./wheels/one_lib-1.0-py3-none-any.whl\n")
    await bootstrap_env(remote, site, UvEnv())
    made = (folder / ".venv" / "pyvenv.cfg").stat().st_ino
    requirements.write_text("./wheels/one_lib-1.0-py3-none-any.whl\n./wheels/two_lib-1.0-py3-none-any.whl\n")
    await bootstrap_env(remote, site, UvEnv())
    assert await has(remote, site, UvEnv(), "one_lib")
    assert await has(remote, site, UvEnv(), "two_lib")
    assert (folder / ".venv" / "pyvenv.cfg").stat().st_ino == made
    with pytest.raises(BootstrapFailed, match="uv sync") as caught:
        await bootstrap_env(remote, site, UvEnv("train"))
    assert "pyproject.toml" in caught.value.evidence


async def test_pre_lines_cache_and_project_folder(remote: ShellRemote, folder: Path) -> None:
    (folder / "libs" / "a").mkdir(parents=True)
    write_project(folder / "libs" / "a", ("one-lib",))
    del remote.env["UV_OFFLINE"]
    site, env = Site(str(folder), project="libs/a"), UvEnv(pre="export UV_OFFLINE=1; pwd >seen", cache_dir="~/my cache")
    await bootstrap_env(remote, site, env)
    assert (folder / "libs/a/seen").read_text().strip() == site.workdir
    assert (remote.home / "my cache").is_dir()
    assert (folder / "libs/a/.venv").is_dir()
    assert await has(remote, site, env, "one_lib")


async def test_a_node_without_uv_gets_ours(remote: ShellRemote, site: Site, folder: Path) -> None:
    (remote.home / ".local/bin/uv").unlink()
    remote.env["PATH"] = "/usr/bin:/bin"
    if (await probe_node(remote)).tool("uv"):
        missing("needs a machine whose system folders hold no uv")
    write_project(folder, ("one-lib",))
    await bootstrap_env(remote, site, UvEnv())
    (sent,) = (remote.home / ".asyncdeploy" / "tools").rglob("uv")
    assert sent.stat().st_mode & 0o777 == 0o755
    assert (remote.home / ".asyncdeploy").stat().st_mode & 0o777 == 0o700
    assert sent.read_bytes() == find_uv_binary().path.read_bytes()
    assert await has(remote, site, UvEnv(), "one_lib")
    await bootstrap_env(remote, site, UvEnv(python="3"))
    said = [event.detail for event in remote.events if isinstance(event, StageFinished) and "send" in event.stage]
    assert said[1] == "= there already"
