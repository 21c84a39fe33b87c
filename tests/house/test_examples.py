"""Every example, run as its first lines say, over real sshd nodes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.examples import OurPython, example
from tests.support.places import EXAMPLES
from tests.support.programs.engines import RAY, python_with
from tests.support.programs.ranks import rank_workspace
from tests.support.tools import in_ci, need_torch

SWEEP = """\
import sys
rate = float(sys.argv[2])
print("learning", flush=True)
sys.exit(3) if rate == 0.001 else print(f"loss {rate * 2:g}")
"""


@pytest.fixture
def hosts(sshd_nodes: Sequence[SshdNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes as words of a command line, for a user whose key and known_hosts are where OpenSSH looks for them."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(mode=0o700, parents=True)
    shutil.copy(str(sshd_nodes[0].node.key_path), folder / "id_ed25519")
    shutil.copy(sshd_nodes[0].known_hosts, folder / "known_hosts")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(tmp_path)
    return [f"root@{sshd.node.host}:{sshd.node.port}" for sshd in sshd_nodes]


def run_example(name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run an example as a script."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.long
async def test_train_then_attach(hosts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_torch()
    rank_workspace(tmp_path / "project")
    hosts = hosts[:2]
    await example("train").main("project", "all_reduce.py", *hosts, env=OurPython())
    said = capsys.readouterr().out
    for rank in range(2):
        assert re.search(rf"^{rank} 127\.0\.0\.1-\d+: .*rank {rank} of 2: sum 3$", said, flags=re.MULTILINE)
        (folder,) = (tmp_path / "results").glob(f"{rank}-*")
        assert (folder / f"rank-{rank}.json").is_file()
    (saved,) = tmp_path.glob("*.json")
    for verb in ("wait", "follow", "stop"):
        result = run_example("attach", saved.stem, verb, *hosts)
        assert result.returncode == 0, result.stderr
        assert [line.split()[1] for line in result.stdout.splitlines()[-2:]] == ["done"] * 2
        assert ("sum 3" in result.stdout) == (verb == "follow")


@pytest.mark.long
async def test_cluster(hosts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = python_with(tmp_path / "venv", "dask[array]", "distributed")
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / "drivers" / "dask_array.py", project)
    assert await example("cluster").main("dask", "project", "python dask_array.py", *hosts[:2], env=env) == 0
    assert re.search(r"^mean 999999.5 on \d+ workers$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    not (os.environ.get("ASYNCDEPLOY_RAY") or in_ci()), reason="takes minutes; ASYNCDEPLOY_RAY=1 runs it"
)
async def test_cluster_with_ray(hosts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = python_with(tmp_path / "venv", RAY.replace("ray", "ray[data]"))
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLES / "drivers" / "ray_data.py", project)
    assert await example("cluster").main("ray", "project", "python ray_data.py", *hosts[:2], env=env) == 0
    assert re.search(r"^sum 9999900000 on 2 nodes$", capsys.readouterr().out, re.MULTILINE)


def test_sweep(hosts: list[str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(SWEEP)
    (project / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.9"\n')
    result = run_example("sweep", "project", *hosts[:2])
    assert result.returncode == 1, result.stderr
    assert result.stdout, result.stderr
    ends = {line.split(" on ")[0]: line.split(": ", 1)[1] for line in result.stdout.splitlines()}
    assert ends == {
        "lr=1e-2": "ok loss 0.02",
        "lr=1e-3": "failed learning",
        "lr=1e-4": "ok loss 0.0002",
        "lr=1e-5": "ok loss 2e-05",
    }


CARRIED = """\
import os, pathlib, sys, time
step = pathlib.Path("checkpoints/step")
if os.environ["ASYNCDEPLOY_ATTEMPT"] == "0":
    step.parent.mkdir()
    step.write_text("17")
    if os.environ["RANK"] == "1":
        sys.exit(9)
    time.sleep(600)
print("goes on from", step.read_text())
"""


async def test_l25_checkpoints_are_carried_to_a_spare(
    hosts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], sshd_nodes: Sequence[SshdNode]
) -> None:
    need_torch()
    (tmp_path / "train.py").write_text(CARRIED)
    module = example("carry_checkpoints")
    assert await module.main("train.py", hosts[:2], hosts[2:3], OurPython()) == 0
    ends = capsys.readouterr().out.splitlines()
    assert [end.split()[-1] for end in ends] == ["done", "done"]
    assert [path.read_text() for path in sshd_nodes[2].home.glob("*/checkpoints/step")] == ["17"]
