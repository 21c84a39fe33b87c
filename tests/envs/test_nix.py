"""NixEnv against a real nix with a store of its own, on a real sshd node."""

import asyncio
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.nix import NixEnv
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.run.jobs import read_log, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import BootstrapFailed, ToolMissing, TransferFailed
from asyncdeploy.values.workspace import Site, Workspace
from tests.support.beds.nix import flake, nix_variables
from tests.support.beds.sshd import Place, SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import details
from tests.support.tools import find, need_root
from tests.support.waiting import eventually

SITE = Site("/home/me/proj")
FACTS = NodeFacts(home="/home/me", user="me", uid=1000, tools={"nix": "/usr/bin/nix"})


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Lead to a store of the module's own."""
    folder = tmp_path_factory.mktemp("nix")
    yield nix_variables(folder)
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)  # nix writes its store read-only


@pytest.fixture(scope="module")
def sshd(variables: dict[str, str]) -> Iterator[SshdNode]:
    """A node that finds that store in its environment."""
    bed = SshdBed()
    try:
        yield bed.start("n0", config={"SetEnv": " ".join(f"{name}={value}" for name, value in variables.items())})
    finally:
        bed.close()


@pytest.fixture
def workspace(project: Path, tmp_path: Path) -> Workspace:
    """A project with a flake, and files of no interest to nix."""
    (project / "flake.nix").write_text(flake())
    (project / "train.py").write_text("print(1)\n")
    return Workspace(project, remote_path=f"~/{tmp_path.name}")


@pytest.fixture
async def deployed(pool: Pool, sshd: SshdNode, workspace: Workspace) -> Deployment:
    """The project with its default shell."""
    return await deploy_project(pool, sshd.node, workspace, NixEnv())


# --- as a value


@pytest.mark.parametrize("env", [NixEnv(), NixEnv("github:o/r", shell="cuda"), NixEnv(package="default")])
def test_it_travels(env: NixEnv) -> None:
    assert env_from_dict(env.to_dict()) == env
    assert pickle.loads(pickle.dumps(env)) == env
    assert hash(env) == hash(env_from_dict(env.to_dict()))


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"flake_ref": ""}, "flake_ref"),
        ({"flake_ref": "-x"}, "flake_ref"),
        ({"flake_ref": ".#shell"}, "flake_ref"),
        ({"flake_ref": "../other"}, "project"),
        ({"shell": "a b"}, "shell"),
        ({"package": ""}, "not both"),
        ({"package": "a", "shell": "b"}, "not both"),
    ],
)
def test_what_it_refuses(fields: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        NixEnv(**fields)


def test_a_node_without_nix() -> None:
    with pytest.raises(ToolMissing, match="no nix") as caught:
        NixEnv().steps(SITE, attrs.evolve(FACTS, tools={}))
    assert "UvEnv" in caught.value.hint


# --- for real


async def test_a_command_in_the_development_shell(pool: Pool, deployed: Deployment) -> None:
    awkward = "a b'c\"d$e\n*\\"
    line = 'cat; hello; echo "$VALUE $HOOKED $MINE"; pwd; exit 3'
    done = await run_in_project(pool, deployed, Command(line, stdin="in\n", env={"MINE": awkward}))
    assert done.status == 3
    assert done.text == f'in\nhello from nix\nit\'s "set" yes {awkward}\n{deployed.site.workdir}'
    assert done.stderr == b"welcome\n"
    exact = await run_in_project(pool, deployed, Command.of("printf", "%s|", awkward, "", "-x"))
    assert exact.stdout.decode() == f"{awkward}||-x|"
    assert (await run_in_project(pool, deployed, "kill -KILL $$")).signal == "KILL"


async def test_nix_is_not_asked_to_enter_or_when_nothing_changed(
    pool: Pool, sshd: SshdNode, workspace: Workspace, variables: dict[str, str]
) -> None:
    seen: list[object] = []
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=seen.append) as watched:
        first = await deploy_project(watched, sshd.node, workspace, NixEnv())
        state = Path(variables["NIX_STATE_DIR"])
        state.rename(state.with_name("away"))  # nix would have to make its database anew
        try:
            (workspace.path / "train.py").write_text("print(2)\n")
            again = await deploy_project(watched, sshd.node, workspace, NixEnv())
            assert (await run_in_project(watched, again, "hello")).text == "hello from nix"
            assert not state.exists()
        finally:
            state.with_name("away").rename(state)
    assert details(seen, "env")[-1] == "= unchanged"
    assert first.site.digest != again.site.digest


async def test_a_changed_flake_is_evaluated_again(pool: Pool, sshd: SshdNode, workspace: Workspace) -> None:
    await deploy_project(pool, sshd.node, workspace, NixEnv())
    (workspace.path / "flake.nix").write_text(flake("good day"))
    changed = await deploy_project(pool, sshd.node, workspace, NixEnv())
    assert (await run_in_project(pool, changed, "hello")).text == "good day"


async def test_another_shell_and_a_package(pool: Pool, sshd: SshdNode, workspace: Workspace) -> None:
    other = await deploy_project(pool, sshd.node, workspace, NixEnv(shell="other"))
    assert (await run_in_project(pool, other, 'echo "$VALUE"')).text == "other"
    package = await deploy_project(pool, sshd.node, workspace, NixEnv(package="default"))
    assert (await run_in_project(pool, package, "hello; pwd")).text == f"hello from nix\n{package.site.workdir}"
    job = await start_in_project(pool, package, "hello; exit 4", name="greet")
    assert (await wait_job(pool.at(sshd.node), job)).exit_status == 4


async def test_a_garbage_collection_leaves_it(
    pool: Pool, deployed: Deployment, sshd: SshdNode, workspace: Workspace, variables: dict[str, str]
) -> None:
    await deploy_project(pool, sshd.node, workspace, NixEnv(package="default"))
    collect = await asyncio.create_subprocess_exec(
        str(find("nix-store")), "--gc", env={**os.environ, **variables}, stdout=-3, stderr=-3
    )
    assert await collect.wait() == 0
    assert (await run_in_project(pool, deployed, "hello")).text == "hello from nix"


async def test_a_package_that_cannot_be_built_says_why_and_spoils_nothing(
    pool: Pool, deployed: Deployment, sshd: SshdNode, workspace: Workspace
) -> None:
    with pytest.raises(BootstrapFailed, match="nix build") as caught:
        await bootstrap_env(pool.at(sshd.node), deployed.site, NixEnv(package="broken"))
    assert "broken" in caught.value.evidence
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(pool.at(sshd.node), deployed.site, NixEnv(package="missing"))
    assert "missing" in caught.value.evidence
    (workspace.path / "flake.nix").write_text("{ outputs = { self }: nonsense; }")
    with pytest.raises(BootstrapFailed, match="nix develop") as caught:
        await deploy_project(pool, sshd.node, workspace, NixEnv())
    assert "nonsense" in caught.value.evidence
    assert (await run_in_project(pool, deployed, "hello")).text == "hello from nix"


async def test_a_lock_that_does_not_fit_is_said_and_left_alone(
    pool: Pool, sshd: SshdNode, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "flake.nix").write_text("{ outputs = { self }: {}; }")
    text = flake().replace(
        "outputs = { self }:", f'inputs.other.url = "path:{tmp_path}/input";\n  outputs = {{ self, other }}:'
    )
    (workspace.path / "flake.nix").write_text(text)
    with pytest.raises(BootstrapFailed) as caught:
        await deploy_project(pool, sshd.node, workspace, NixEnv())
    assert "nix flake lock" in caught.value.hint
    assert not (sshd.home / tmp_path.name / "flake.lock").exists()


async def test_no_flake_was_pushed(pool: Pool, sshd: SshdNode, workspace: Workspace) -> None:
    (workspace.path / "flake.nix").unlink()
    with pytest.raises(BootstrapFailed) as caught:
        await deploy_project(pool, sshd.node, workspace, NixEnv())
    assert "no flake.nix was pushed" in caught.value.evidence


async def test_a_daemon_that_does_not_answer(pool: Pool, sshd: SshdNode, workspace: Workspace, tmp_path: Path) -> None:
    deployed = await deploy_project(pool, sshd.node, workspace, NixEnv())
    away = tmp_path / "nix"
    away.write_text(f'#!/bin/sh\nexport NIX_REMOTE=daemon\nexec {find("nix")} "$@"\n')
    away.chmod(0o755)
    remote = pool.at(sshd.node)
    remote.memory["facts"] = attrs.evolve(deployed.facts, tools={**dict(deployed.facts.tools), "nix": str(away)})
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, deployed.site, NixEnv(package="default"))
    assert "nix daemon" in caught.value.hint


# --- a closure that is made here


@pytest.fixture
def bare(variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshdNode]:
    """A node whose store has the same path as ours, and nothing in it."""
    need_root()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path(variables["NIX_STORE_DIR"]).mkdir(exist_ok=True)
    (tmp_path / "store").mkdir()
    mount = f'mount --bind {tmp_path}/store {variables["NIX_STORE_DIR"]} && exec "$@"'
    there = {**variables, "NIX_STATE_DIR": str(tmp_path / "state")}
    bed = SshdBed()
    try:
        config = {"SetEnv": " ".join(f"{name}={value}" for name, value in there.items())}
        yield bed.start("bare", config=config, place=Place(enter=("unshare", "-m", "sh", "-c", mount, "bind")))
    finally:
        bed.close()
        subprocess.run(["chmod", "-R", "u+w", tmp_path], check=True)


async def test_a_closure_is_made_here_and_copied(
    bare: SshdNode, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, seen = NixEnv(copy_closure=True), list[object]()
    async with Pool(host_keys=HostKeys.strict(bare.known_hosts), observer=seen.append) as pool:
        deployment = await deploy_project(pool, bare.node, workspace, env)
        assert (await run_in_project(pool, deployment, 'hello; echo "$HOOKED"')).text == "hello from nix\nyes"
        (own,) = (await run_in_project(pool, deployment, 'printf %s "$out"')).text.split()
        assert own == f"{deployment.site.workdir}/outputs/out", "not where it was made"
        assert Deployment.from_dict(deployment.to_dict()).env == env
        copied = {path.name.partition("-")[2] for path in (tmp_path / "store").iterdir()}
        assert {"hello-1", "stdenv"} < copied, "what the shell needs was copied"
        assert not any(name.endswith(".drv") for name in copied), "nothing was evaluated there"
        with monkeypatch.context() as patch:
            patch.setenv("PATH", "/usr/bin:/bin")
            patch.setenv("NIX_CONF_DIR", "/nonexistent")
            again = await deploy_project(pool, bare.node, workspace, env)
        assert again == deployment
        package = await deploy_project(pool, bare.node, workspace, NixEnv(package="default", copy_closure=True))
        assert (await run_in_project(pool, package, "hello")).text == "hello from nix"
        collected = await run_in_project(pool, package, "nix-store --gc")
        assert collected.ok
        assert (await run_in_project(pool, package, "hello")).text == "hello from nix"
    assert details(seen, "env")[1] == "= unchanged"
    assert not list(Path(deployment.site.path).glob(".asyncdeploy/nix-*/closure"))


async def test_a_flake_elsewhere_is_sent_as_it_is_now(bare: SshdNode, workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with Pool(host_keys=HostKeys.strict(bare.known_hosts)) as pool:
        for greeting in ("first", "second"):
            (elsewhere / "flake.nix").write_text(flake(greeting))
            env = NixEnv(f"path:{elsewhere}", package="default", copy_closure=True)
            deployment = await deploy_project(pool, bare.node, workspace, env)
            assert (await run_in_project(pool, deployment, "hello")).text == greeting


async def test_a_closure_that_cannot_be_made_says_why(bare: SshdNode, workspace: Workspace) -> None:
    async with Pool(host_keys=HostKeys.strict(bare.known_hosts)) as pool:
        with pytest.raises(TransferFailed, match="could not be made on this machine") as caught:
            await deploy_project(pool, bare.node, workspace, NixEnv(package="broken", copy_closure=True))
    assert caught.value.node == "bare"
    assert "it cannot be built" in caught.value.evidence
    other = attrs.evolve(FACTS, arch="aarch64")
    with pytest.raises(ToolMissing, match="aarch64"):
        NixEnv(copy_closure=True).with_folder(workspace.path).assets(SITE, other)
    with pytest.raises(TransferFailed, match="where the project lies"):
        NixEnv(copy_closure=True).assets(SITE, FACTS)


async def test_e9_results_that_lie_there_do_not_go_into_the_store(
    pool: Pool, sshd: SshdNode, workspace: Workspace, variables: dict[str, str]
) -> None:
    deployed = await deploy_project(pool, sshd.node, workspace, NixEnv())
    results = Path(deployed.site.path) / "results"
    results.mkdir()
    (results / "model.pt").write_bytes(os.urandom(1 << 20))
    (workspace.path / "flake.nix").write_text(flake("made anew"))
    deployed = await deploy_project(pool, sshd.node, workspace, NixEnv())
    assert (await run_in_project(pool, deployed, "hello")).check().text == "made anew"
    stored = list(Path(variables["NIX_STORE_DIR"]).rglob("model.pt"))
    assert stored == []
    assert list(Path(variables["NIX_STORE_DIR"]).rglob("train.py")), "what was pushed is there"


async def test_e4_a_job_in_a_package_keeps_it(pool: Pool, sshd: SshdNode, workspace: Workspace, tmp_path: Path) -> None:
    env = NixEnv(package="default")
    deployed = await deploy_project(pool, sshd.node, attrs.evolve(workspace, under_jobs="overwrite"), env)
    line = f"hello; touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.05; done; hello"
    job = await start_in_project(pool, deployed, line, name="train")
    await eventually((tmp_path / "begun").exists, "the job runs")
    (workspace.path / "flake.nix").write_text(flake("another"))
    later = await deploy_project(pool, sshd.node, attrs.evolve(workspace, under_jobs="overwrite"), env)
    assert (await run_in_project(pool, later, "hello")).check().text == "another"
    (tmp_path / "go").touch()
    await wait_job(pool.at(sshd.node), job)
    assert (await read_log(pool.at(sshd.node), job, 1000)).splitlines() == ["hello from nix"] * 2
