"""What a project says to uv: the node's own serves if it is young enough and wanted; extras and groups."""

from pathlib import Path

import attrs
import pytest

from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_project import FLOOR, misfit, required_version
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.values.errors import ToolMissing
from asyncdeploy.values.workspace import Site
from tests.support.envs import write_project
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote

OLD = """#!/bin/sh
[ "$1" != --version ] || { echo "uv VERSION (abc 2024-01-01)"; exit; }
echo "error: unexpected argument '--relocatable' found" >&2
exit 2
"""


@pytest.fixture
def remote(remote: ShellRemote) -> ShellRemote:
    """A node with a uv of another age, which knows nothing of what we ask for."""
    (remote.home / ".local/bin/uv").unlink()
    (remote.home / ".local/bin/uv").write_text(OLD.replace("VERSION", "0.2.37"))
    (remote.home / ".local/bin/uv").chmod(0o755)
    remote.env["PATH"] = "/usr/bin:/bin"
    return remote


async def test_e10_a_uv_that_is_too_old_is_passed_over(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    await bootstrap_env(remote, site, UvEnv())
    assert (await probe_node(remote)).uv_version == "0.2.37"
    assert list((remote.home / ".asyncdeploy" / "tools").rglob("uv")), "ours was sent"
    await bootstrap_env(remote, site, UvEnv())
    assert details(remote.events, "env")[-1] == "= unchanged"


async def test_e10_a_uv_that_the_project_does_not_want_is_passed_over(
    remote: ShellRemote, site: Site, folder: Path
) -> None:
    uv = remote.home / ".local/bin/uv"
    uv.write_text(OLD.replace("VERSION", FLOOR))
    ours = find_uv_binary().version
    write_project(folder, ("one-lib",))
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace("[tool.uv]\n", f'[tool.uv]\nrequired-version = ">={ours}"\n'))
    await bootstrap_env(remote, site, UvEnv().with_folder(folder))
    assert list((remote.home / ".asyncdeploy" / "tools").rglob("uv")), "ours was sent"


def test_e10_without_one_to_send_the_age_is_said() -> None:
    facts = NodeFacts("/h", "me", 1, system="FreeBSD", arch="x86_64", tools={"uv": "/usr/bin/uv"}, uv_version="0.4.1")
    with pytest.raises(ToolMissing, match=rf"on the node uv 0\.4\.1 is too old: {FLOOR} or later"):
        UvEnv().assets(Site("/srv/p"), facts)
    assert UvEnv().assets(Site("/srv/p"), attrs.evolve(facts, uv_version="0.9.0")) == ()
    assert UvEnv().assets(Site("/srv/p"), attrs.evolve(facts, uv_version="")) == (), "nobody knows"


@pytest.mark.parametrize(
    "version,required,fits",
    [
        *(("0.8.3", rule, True) for rule in (">=0.8", "0.8.3", "==0.8.*", ">=0.8,<0.9", "~=0.8.1", "!=0.8.4", "odd")),
        *(
            ("0.8.3", rule, False)
            for rule in (">=0.9", "==0.8.2", "==0.9.*", ">=0.8,<0.8.3", "~=0.9.0", "!=0.8.*", "<0.8.3")
        ),
        ("0.10.0", ">=0.9.2", True),
        ("0.6.17", "", False),
        ("0.7.0+local", "", True),
    ],
)
def test_which_versions_serve(version: str, required: str, fits: bool) -> None:
    assert (misfit(version, required) == "") is fits


def test_the_nearest_file_says_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert required_version(tmp_path / "a" / "b") == ""
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nrequired-version = ">=0.8"\n')
    assert required_version(tmp_path / "a" / "b") == ">=0.8"
    (tmp_path / "a" / "uv.toml").write_text('required-version = "==0.9.1"\n')
    assert required_version(tmp_path / "a" / "b") == "==0.9.1"


OF_A_PROJECT = '[project]\nname = "a"\n[project.optional-dependencies]\nTest_All = []\ntrain = []\n'


@pytest.mark.parametrize(
    "env, says",
    [
        (
            UvEnv(extra=("test-al",)),
            r"UvEnv extra: .*pyproject\.toml has no extra 'test-al'; did you mean 'Test_All'\?",
        ),
        (UvEnv(extra=("train", "zzz")), r"no extra 'zzz'; there are Test_All, train"),
        (UvEnv(groups=("dve",)), r"UvEnv groups: .* has no group 'dve'; did you mean 'dev'\?"),
        (UvEnv(groups="dev", extra="trian"), r"no extra 'trian'; did you mean 'train'\?"),
    ],
)
def test_an_extra_or_group_that_is_not_there_is_refused_here(env: UvEnv, says: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(OF_A_PROJECT + "[dependency-groups]\ndev = []\n")
    with pytest.raises(ValueError, match=says):
        env.with_folder(tmp_path)


@pytest.mark.parametrize(
    "text, env",
    [
        (OF_A_PROJECT, UvEnv(("test.all", "TRAIN"))),  # as uv compares names
        ('[project]\nname = "a"\ndynamic = ["optional-dependencies"]\n', UvEnv("found-by-the-build")),
        ('[tool.uv.workspace]\nmembers = ["libs/*"]\n', UvEnv("of-a-member", groups="too")),
        (OF_A_PROJECT, UvEnv("of-another", package="b")),
        (OF_A_PROJECT, UvEnv("of-another", all_packages=True)),
        (OF_A_PROJECT + "[tool.uv]\ndev-dependencies = []\n", UvEnv(groups="dev")),
        ("no toml", UvEnv("train")),
    ],
)
def test_what_only_uv_can_tell_is_left_to_it(text: str, env: UvEnv, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert env.with_folder(tmp_path) == env


def test_the_groups_of_a_workspace_serve_its_members(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["a"]\n[dependency-groups]\nlint = []\n')
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pyproject.toml").write_text(OF_A_PROJECT)
    env = UvEnv(groups="lint")
    assert env.with_folder(tmp_path / "a") == env
