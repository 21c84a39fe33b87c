"""Secrets of an environment's steps: an index's credentials reach uv and nobody else, here and on the node."""

import json
import pickle
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import deploy_project, run_in_project
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.values.errors import BootstrapFailed, TransferFailed
from asyncdeploy.values.events import Event, OutputLine
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.index import Index, write_release
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import details
from tests.support.secrecy import sightings_of

CANARY = "canary-5e0c1b7a"
NAMES = {"UV_INDEX_MY_OWN_USERNAME": "me", "UV_INDEX_MY_OWN_PASSWORD": CANARY}
QUICK = ("export UV_PYTHON_DOWNLOADS=never UV_HTTP_RETRIES=0 UV_NO_CACHE=1", "sleep 0.3")
"""Long enough for the watch to look."""
SEEN = "import parts_lib; print(parts_lib.VERSION)"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index that wants a name and a password."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_release(tmp_path / "wheels", "parts-lib", "1.0")
    with Index(tmp_path / "wheels") as index:
        index.login = f"me:{CANARY}"
        yield index


@pytest.fixture
def workspace(project: Path, tmp_path: Path, index: Index) -> Workspace:
    """A project that names it, and its lock."""
    (project / "pyproject.toml").write_text(
        '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["parts-lib"]\n'
        f'[tool.uv]\npackage = false\n[[tool.uv.index]]\nname = "my-own"\nurl = "{index.url}"\ndefault = true\n'
    )
    lock(project, NAMES)
    return Workspace(project, remote_path=f"~/{tmp_path.name}")


def lock(project: Path, env: dict[str, str]) -> None:
    words = [find_uv_binary().path, "lock", "-q", "--no-cache"]
    subprocess.run(words, cwd=project, check=True, env={"PATH": "/usr/bin:/bin", **env})


@pytest.mark.parametrize("offline", [False, True])
async def test_e11_an_index_s_credentials_reach_uv_and_show_nowhere(
    sshd_nodes: Sequence[SshdNode], workspace: Workspace, offline: bool, tmp_path: Path
) -> None:
    sshd, events, told = sshd_nodes[0], list[Event](), "echo it is $UV_INDEX_MY_OWN_PASSWORD"
    env = UvEnv(secrets=NAMES, pre=(*QUICK, told), post=told, offline=offline)
    with sightings_of(CANARY, [sshd.home, tmp_path]) as sightings:
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=events.append) as pool:
            deployed = await deploy_project(pool, sshd.node, workspace, env)
            assert (await run_in_project(pool, deployed, f"python -c '{SEEN}'")).check().text == "1.0"
            left = await run_in_project(pool, deployed, "env; cat /proc/self/environ")
            again = await deploy_project(pool, sshd.node, workspace, UvEnv(**fields(env, "another")))
    assert {place for place in sightings.places if "mode 600" not in place} == set()
    assert not [place for place in sightings.places if str(sshd.home) in place], "nothing of it stays on the node"
    assert sightings.looks > 10
    assert CANARY not in left.check().text
    assert [event.text for event in events if isinstance(event, OutputLine) and "it is" in event.text][:2] == [
        "it is ***"
    ] * 2
    for thing in (env, deployed, again, *events):
        assert CANARY not in repr(thing) + str(thing) + json.dumps(thing.to_dict(), default=repr)
    assert details(events, "env")[-1] == "= unchanged", "another password makes no other environment"


def fields(env: UvEnv, password: str) -> dict[str, object]:
    return {
        "secrets": {**NAMES, "UV_INDEX_MY_OWN_PASSWORD": password},
        "pre": env.pre,
        "post": env.post,
        "offline": env.offline,
    }


def test_e11_secrets_travel_in_a_pickle_and_not_in_json() -> None:
    env = UvEnv(secrets=NAMES)
    assert pickle.loads(pickle.dumps(env)) == env
    again = env_from_dict(json.loads(json.dumps(env.to_dict())))
    assert isinstance(again, UvEnv)
    assert [name for name, _ in again.secrets] == sorted(NAMES)
    assert again != env
    with pytest.raises(ValueError, match="environment variable"):
        UvEnv(secrets={"not a name": CANARY})


@pytest.mark.parametrize("offline", [False, True])
async def test_e11_a_401_says_how_to_give_credentials(
    sshd_nodes: Sequence[SshdNode], workspace: Workspace, offline: bool
) -> None:
    sshd = sshd_nodes[0]
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        with pytest.raises((BootstrapFailed, TransferFailed)) as caught:
            await deploy_project(pool, sshd.node, workspace, UvEnv(pre=QUICK[:1], offline=offline))
    assert "UV_INDEX_<NAME>_PASSWORD" in caught.value.hint


@pytest.mark.parametrize("kept", ["variables", "uv auth", "url"])
async def test_e11_offline_takes_what_uv_itself_would(
    sshd_nodes: Sequence[SshdNode],
    workspace: Workspace,
    index: Index,
    kept: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    project = workspace.path / "pyproject.toml"
    if kept == "variables":
        for name, value in NAMES.items():
            monkeypatch.setenv(name, value)
    elif kept == "uv auth":
        monkeypatch.setenv("UV_INDEX_MY_OWN_USERNAME", "me")
        words = [find_uv_binary().path, "auth", "login", "-q", "--username", "me", "--password", CANARY, index.url]
        subprocess.run(words, check=True)
    else:
        project.write_text(project.read_text().replace("http://", f"http://me:{CANARY}@"))
    sshd = sshd_nodes[0]
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        deployed = await deploy_project(pool, sshd.node, workspace, UvEnv(pre="export UV_OFFLINE=1", offline=True))
        assert (await run_in_project(pool, deployed, f"python -c '{SEEN}'")).check().text == "1.0"


HASHLESS = {
    "a folder": '[tool.uv]\npackage = false\nfind-links = ["../wheels"]\n',
    "a flat folder": '[tool.uv]\npackage = false\n[[tool.uv.index]]\nname = "f"\nurl = "../wheels"\nformat = "flat"\n',
    "a page": '[tool.uv]\npackage = false\n[[tool.uv.index]]\nname = "f"\nurl = "{page}"\nformat = "flat"\n',
    "an index": '[tool.uv]\npackage = false\n[[tool.uv.index]]\nname = "f"\nurl = "{url}"\ndefault = true\n',
}


@pytest.mark.parametrize("login", ["", f"me:{CANARY}"], ids=["open", "with a login"])
@pytest.mark.parametrize("kind", HASHLESS)
async def test_e12_offline_with_what_is_locked_without_a_hash(
    sshd_nodes: Sequence[SshdNode], project: Path, index: Index, tmp_path: Path, kind: str, login: str
) -> None:
    write_release(index.wheels, "torch", "2.5.1+cpu")
    write_release(tmp_path / "other", "plain-lib", "1.0")
    index.hashed, index.login = False, login
    page = index.url.replace("/simple", "/flat")
    with Index(tmp_path / "other") as other:  # what has a hash beside it
        text = HASHLESS[kind].format(url=index.url, page=page)
        (project / "pyproject.toml").write_text(
            '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\n'
            f'dependencies = ["torch==2.5.1+cpu", "plain-lib"]\n{text}[[tool.uv.index]]\n'
            f'name = "other"\nurl = "{other.url}"\ndefault = {str("default" not in text).lower()}\n'
        )
        secrets = {"UV_INDEX_F_USERNAME": "me", "UV_INDEX_F_PASSWORD": CANARY}
        lock(project, secrets)
        sshd = sshd_nodes[0]
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
            place = Workspace(project, remote_path=f"~/{tmp_path.name}")
            env = UvEnv(pre="export UV_OFFLINE=1", offline=True, secrets=secrets)
            deployed = await deploy_project(pool, sshd.node, place, env)
            line = "python -c 'import torch, plain_lib; print(torch.VERSION)'"
            assert (await run_in_project(pool, deployed, line)).check().text == "2.5.1+cpu"
