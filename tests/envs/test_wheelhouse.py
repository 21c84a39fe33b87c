"""UvEnv(offline=True): wheels fetched here for the nodes' platform, with real uv and pip; the nodes ask no index."""

import hashlib
import json
import subprocess
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import deploy_project, run_in_project
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.envs.wanted import Wanted, node_python
from asyncdeploy.envs.wheelhouse import _list
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.events import StageFinished
from asyncdeploy.values.workspace import Site
from tests.support.beds.index import Index, write_release
from tests.support.beds.sshd import SshdNode
from tests.support.remotes.shell_remote import ShellRemote

FACTS = NodeFacts("/home/me", "me", 1000, arch="x86_64", libc="glibc 2.36", python_version="3.12.1")
HEAD = '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\n'
PARTS = "import parts_lib; print(parts_lib.VERSION)"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, version in (("parts-lib", "1.0"), ("parts-lib", "2.0"), ("train-lib", "1.0"), ("win-lib", "1.0")):
        write_release(tmp_path / "wheels", name, version)
    with Index(tmp_path / "wheels") as index:
        yield index


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "proj").mkdir()
    return tmp_path / "proj"


def write_locked(project: Path, index: Index, text: str) -> None:
    (project / "pyproject.toml").write_text(HEAD + text)
    words = [find_uv_binary().path, "lock", "-q", "--default-index", index.url, "--no-config", "--no-cache"]
    subprocess.run(words, cwd=project, check=True)


def push(project: Path, site: Site) -> None:
    """Put the project's files where a push would."""
    Path(site.path).mkdir(parents=True, exist_ok=True)
    for file in project.iterdir():
        (Path(site.path) / file.name).write_bytes(file.read_bytes())


def sent(remote: ShellRemote) -> list[str]:
    prefix = "env: send "
    stages = [event for event in remote.events if isinstance(event, StageFinished) and event.stage.startswith(prefix)]
    return [event.stage.removeprefix(prefix) for event in stages if not event.detail.startswith("=")]


def test_platforms_are_the_node_s_best_first() -> None:
    glibc = Wanted(Path("/p"), (), (), "3.12", "aarch64", "glibc 2.31").platforms()
    assert glibc[0] == "manylinux_2_31_aarch64"
    assert "manylinux_2_17_aarch64" in glibc
    assert glibc[-4:] == ("manylinux2014_aarch64", "manylinux2010_aarch64", "manylinux1_aarch64", "linux_aarch64")
    musl = Wanted(Path("/p"), (), (), "3.12", "x86_64", "musl 1.2").platforms()
    assert musl == ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64")


def test_the_python_is_the_one_asked_for_or_pinned_or_the_node_s(project: Path) -> None:
    assert node_python(project, None, FACTS) == "3.12"
    (project / ".python-version").write_text("3.11.4\n")
    assert node_python(project, None, FACTS) == "3.11"
    assert node_python(project, "3.10", FACTS) == "3.10"
    (project / ".python-version").unlink()
    with pytest.raises(TransferFailed, match="node's Python"):
        node_python(project, "pypy", NodeFacts("/home/me", "me", 1000))


def test_where_the_project_lies_is_no_part_of_the_environment_s_name(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "p"\n[project.optional-dependencies]\ntrain = []\n')
    env = UvEnv("train", offline=True)
    told = env.with_folder(project)
    assert told.folder == project
    assert told.to_dict() == env.to_dict()
    assert env_from_dict(json.loads(json.dumps(told.to_dict()))) == env
    assert UvEnv().with_folder(project) == UvEnv()
    with pytest.raises(TransferFailed, match="where the project lies"):
        env.assets(Site("/srv/p"), FACTS)


def test_no_wheel_is_read_into_memory_whole(tmp_path: Path) -> None:
    with (tmp_path / "torch.whl").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        _list(tmp_path, ["torch.whl"])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 << 20
    listed = json.loads((tmp_path / "listed.json").read_text())
    assert listed == {"torch.whl": hashlib.sha256(bytes(64 << 20)).hexdigest()}


async def test_all_that_is_locked_travels_as_wheels_and_later_only_what_is_new(
    remote: ShellRemote, project: Path, index: Index
) -> None:
    dependencies = '["parts-lib==1.0", "win-lib; sys_platform == \'win32\'"]'
    extra = '[project.optional-dependencies]\ntrain = ["train-lib"]\n[tool.uv]\npackage = false\n'
    write_locked(project, index, f"dependencies = {dependencies}\n{extra}")
    site, env = Site(str(remote.home / "site")), UvEnv("train", offline=True).with_folder(project)
    push(project, site)
    await bootstrap_env(remote, site, env)
    parts, train = "parts_lib-1.0-py3-none-any.whl", "train_lib-1.0-py3-none-any.whl"
    assert sent(remote) == [parts, train, "requirements.txt"]
    facts = await probe_node(remote)
    assert (await run_command(remote, env.enter(Command.of("python", "-c", PARTS), site, facts))).text.strip() == "1.0"
    asked = len(index.asked)
    remote.events.clear()
    await bootstrap_env(remote, site, env)
    assert sent(remote) == []
    assert len(index.asked) == asked, "nothing is resolved or fetched again"
    write_locked(project, index, f"dependencies = {dependencies.replace('1.0', '2.0')}\n{extra}")
    push(project, site)
    remote.events.clear()
    await bootstrap_env(remote, site, env)
    assert sent(remote) == [parts.replace("1.0", "2.0"), "requirements.txt"]
    assert (await run_command(remote, env.enter(Command.of("python", "-c", PARTS), site, facts))).text.strip() == "2.0"
    left = sorted(path.name for path in Path(site.path, ".asyncdeploy/wheels").iterdir())
    assert left == [parts.replace("1.0", "2.0"), "requirements.txt", train]


async def test_two_nodes_and_one_wheelhouse(
    sshd_nodes: Sequence[SshdNode], project: Path, index: Index, tmp_path: Path
) -> None:
    write_locked(project, index, 'dependencies = ["parts-lib"]\n[tool.uv]\npackage = false\n')
    index.asked.clear()
    env = UvEnv(offline=True, pre="export UV_OFFLINE=1")
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        deployments = (await deploy_all([each.node for each in sshd_nodes[:2]], project, env, pool=pool)).unwrap()
        for deployment in deployments:
            assert (await run_in_project(pool, deployment, f"python -c '{PARTS}'")).check().text.strip() == "2.0"
    assert len([path for path in index.asked if path.endswith("parts_lib-2.0-py3-none-any.whl")]) <= 2  # HEAD, GET


async def test_a_project_that_is_built_brings_what_it_is_built_with(
    sshd_nodes: Sequence[SshdNode], project: Path, index: Index
) -> None:
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    scripts = '[project.scripts]\nproj-main = "proj:main"\n'
    (project / "proj").mkdir()
    (project / "proj" / "__init__.py").write_text("def main() -> None:\n    print('built')\n")
    write_locked(project, index, f'dependencies = ["parts-lib"]\n{scripts}{build}')
    env = UvEnv(offline=True, pre="export UV_OFFLINE=1")
    sshd = sshd_nodes[0]
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        deployment = await deploy_project(pool, sshd.node, project, env)
        assert (await run_in_project(pool, deployment, "proj-main")).check().text.strip() == "built"
        (project / "proj" / "__init__.py").write_text("def main() -> None:\n    print('changed')\n")
        deployment = await deploy_project(pool, sshd.node, project, env)
        assert (await run_in_project(pool, deployment, "proj-main")).check().text.strip() == "changed"


async def test_requirements_and_pylock(remote: ShellRemote, project: Path, index: Index) -> None:
    site = Site(str(remote.home / "site"))
    write_locked(project, index, 'dependencies = ["parts-lib<2"]\n[tool.uv]\npackage = false\n')
    words = [find_uv_binary().path, "export", "-q", "--frozen", "--format", "pylock.toml", "-o", "pylock.toml"]
    subprocess.run(words, cwd=project, check=True)
    for name in ("uv.lock", "pyproject.toml"):
        (project / name).unlink()
    env = UvEnv(offline=True).with_folder(project)
    facts = await probe_node(remote)
    push(project, site)
    await bootstrap_env(remote, site, env)
    assert (await run_command(remote, env.enter(Command.of("python", "-c", PARTS), site, facts))).text.strip() == "1.0"
    (project / "pylock.toml").unlink()
    (project / "requirements.txt").write_text(f"--index-url {index.url}\nparts-lib==2.*\n")
    await bootstrap_env(remote, site, env)
    assert (await run_command(remote, env.enter(Command.of("python", "-c", PARTS), site, facts))).text.strip() == "2.0"


@pytest.mark.parametrize("option", ["-r", "-c"])
async def test_e1_offline_an_included_file_changed(
    remote: ShellRemote, project: Path, index: Index, option: str
) -> None:
    site, env = Site(str(remote.home / "site")), UvEnv(offline=True, requirements="top.txt").with_folder(project)
    (project / "top.txt").write_text(f"--index-url {index.url}\nparts-lib\n{option} more.in\n")
    for version in ("1.0", "2.0"):
        (project / "more.in").write_text(f"parts-lib=={version}\n")
        push(project, site)
        await bootstrap_env(remote, site, env)
        facts = await probe_node(remote)
        command = env.enter(Command.of("python", "-c", PARTS), site, facts)
        assert (await run_command(remote, command, check=True)).text.strip() == version


async def test_what_cannot_be_had_is_named(remote: ShellRemote, project: Path, index: Index) -> None:
    site, env = Site(str(remote.home / "site")), UvEnv(offline=True).with_folder(project)
    (project / "pyproject.toml").write_text(HEAD)
    push(project, site)
    with pytest.raises(TransferFailed, match=r"no uv\.lock") as caught:
        await bootstrap_env(remote, site, env)
    assert caught.value.node == "here"
    assert "uv lock" in caught.value.hint
    write_locked(project, index, 'dependencies = ["parts-lib"]\n[tool.uv]\npackage = false\n')
    index.status = 404
    with pytest.raises(TransferFailed, match="could not be made") as caught:
        await bootstrap_env(remote, site, env)
    assert "parts-lib" in caught.value.evidence
    assert "index" in caught.value.hint
