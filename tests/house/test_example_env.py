"""The environment in examples/: somebody else's class, on a real node, with the same events, skipping and errors."""

import importlib.util
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment, deploy_project, run_in_project, start_in_project
from asyncdeploy.run.jobs import wait_job
from asyncdeploy.values.errors import BootstrapFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.envs import write_wheel
from tests.support.events import details
from tests.support.places import EXAMPLES

PATH = EXAMPLES / "venv_env.py"


@pytest.fixture(scope="module")
def theirs() -> Iterator[ModuleType]:
    """Their module, imported as they would."""
    spec = importlib.util.spec_from_file_location("venv_env", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["venv_env"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["venv_env"]


@pytest.fixture
def project(tmp_path: Path) -> Workspace:
    """A project that needs one package, whose wheel is in it."""
    folder = tmp_path / "project"
    write_wheel(folder / "wheels", "tiny-one")
    write_wheel(folder / "wheels", "tiny-two")
    (folder / "requirements.txt").write_text("--no-index\n--find-links wheels\ntiny-one\n")
    return Workspace(folder)


def test_it_is_as_short_as_the_docs_say() -> None:
    assert len(PATH.read_text().splitlines()) < 100


async def test_their_environment_is_one_of_ours(
    theirs: ModuleType, sshd_nodes: Sequence[SshdNode], project: Workspace
) -> None:
    seen: list[object] = []
    sshd, env = sshd_nodes[0], theirs.VenvEnv()
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=seen.append) as pool:
        deployed = await deploy_project(pool, sshd.node, project, env)
        travelled = Deployment.from_dict(pickle.loads(pickle.dumps(deployed)).to_dict())
        assert travelled == deployed
        line = "python -c 'import tiny_one, os, sys; print(tiny_one.NAME, os.getcwd()); sys.exit(3)'"
        done = await run_in_project(pool, travelled, line)
        assert (done.status, done.text) == (3, f"tiny-one {deployed.site.workdir}")
        job = await start_in_project(pool, deployed, "python -c 'import tiny_one; exit(4)'", name="job")
        assert (await wait_job(pool.at(sshd.node), job)).exit_status == 4
        await deploy_project(pool, sshd.node, project, env)
        (project.path / "requirements.txt").write_text("--no-index\n--find-links wheels\ntiny-one\ntiny-two\n")
        await deploy_project(pool, sshd.node, project, env)
        assert (await run_in_project(pool, deployed, "python -c 'import tiny_two'")).ok
    assert details(seen, "env") == ["2 steps", "= unchanged", "2 steps"]
    assert details(seen, "env: venv") == ["", "= nothing to do"]


async def test_its_failing_step_is_named_and_what_stood_before_still_works(
    theirs: ModuleType, sshd_nodes: Sequence[SshdNode], project: Workspace, pool: Pool
) -> None:
    node = sshd_nodes[1].node
    deployed = await deploy_project(pool, node, project, theirs.VenvEnv())
    (project.path / "requirements.txt").write_text("--no-index\n--find-links wheels\nno-such-package\n")
    with pytest.raises(BootstrapFailed, match="pip install") as caught:
        await deploy_project(pool, node, project, theirs.VenvEnv())
    assert "no-such-package" in caught.value.evidence
    assert (await run_in_project(pool, deployed, "python -c 'import tiny_one'")).ok
