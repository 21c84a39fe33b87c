"""A project names its files as it likes: those that shadow a module of Python's are not run by our programs."""

import subprocess
import sys
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.values.texts import python_word
from tests.support.tools import need_torch

NAMES = ("signal", "platform", "json", "re", "difflib", "importlib", "hashlib", "traceback", "runpy", "torchrun")


@pytest.fixture
def shadows(project: Path) -> Path:
    """A project with files that are called as modules are, and a program in a folder below it."""
    for name in NAMES:
        (project / f"{name}.py").write_text(f"import sys\nsys.exit('{name} was run')\n")
    (project / "src").mkdir()
    (project / "src/train.py").write_text("import json, signal, platform\nprint('trained', flush=True)\n")
    (project / "src/broken.py").write_text("import sys\nsys.path.insert(0, '.')\nraise OSError('it broke')\n")
    return project


async def test_l18_torchrun_starts_beside_a_signal_py(shadows: Path) -> None:
    need_torch()
    async with ad.LocalCluster(1) as cluster, cluster.pool() as pool:
        launcher = ad.Torchrun("src/train.py", nproc_per_node=1, python=sys.executable)
        launch = await ad.fan_out(cluster.nodes, shadows, launcher, ad.SystemEnv(), pool=pool)
        report = await ad.wait_launch(launch, pool=pool)
        log = await ad.read_log(pool.at(cluster.nodes[0]), launch.jobs[0])
    assert report.ok, log
    assert "trained" in log
    assert "was run" not in log


async def test_l18_an_exception_is_written_down_beside_a_traceback_py(shadows: Path) -> None:
    async with ad.LocalCluster(1) as cluster, cluster.pool() as pool:
        launcher = ad.Ranks(f"{sys.executable} src/broken.py", nproc_per_node=1)
        launch = await ad.fan_out(cluster.nodes, shadows, launcher, ad.SystemEnv(), pool=pool)
        report = await ad.wait_launch(launch, pool=pool)
    (failure,) = [outcome.error for outcome in report]
    assert isinstance(failure, ad.LaunchFailed)
    assert failure.cause == "OSError: it broke"
    assert "broken.py" in failure.frames[-1], "it was noted by the rank itself"


@pytest.mark.parametrize("program", ["inspect_env", "check_imports"])
def test_l18_what_looks_at_an_environment_runs_nothing_of_the_project(shadows: Path, program: str) -> None:
    words = [sys.executable, "-c", python_word(f"node_side/envs/{program}.py")]
    done = subprocess.run(words, cwd=shadows, capture_output=True, check=False, text=True)
    assert "was run" not in done.stdout + done.stderr
    assert done.returncode == 0


def test_l18_modules_of_the_project_may_be_asked_for(project: Path) -> None:
    (project / "mine.py").write_text("")
    words = [sys.executable, "-c", python_word("node_side/envs/check_imports.py")]
    assert subprocess.run([*words, "mine"], cwd=project, capture_output=True, check=False).returncode == 0
    assert subprocess.run([*words, "nobodys"], cwd=project, capture_output=True, check=False).returncode == 1
