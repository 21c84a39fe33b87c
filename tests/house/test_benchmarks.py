"""The benchmarks run: tiny, against real sshd, each result checked, so that they cannot rot."""

import subprocess
import sys

import pytest

from tests.support.places import ROOT
from tests.support.tools import need, need_root


@pytest.mark.long
def test_what_is_checked_where_gpus_are_runs_without() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        *("facts", "reduce", "stopped", "killed", "greedy", "busy"),
    ]


@pytest.mark.parametrize(
    "name,tools",
    [
        ("fan_out", ["pdsh"]),
        ("push", ["rsync"]),
        ("collect", ["rsync"]),
        ("bounds", []),
        ("cold_start", []),
        ("launch", []),
        ("old_jobs", []),
        ("scale", []),
        ("envs", ["dockerd", "docker", "nix"]),
    ],
)
@pytest.mark.long
def test_it_runs_and_prints_its_table(name: str, tools: list[str]) -> None:
    need_root()
    need("ssh", "xargs", *tools)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--tiny"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| asyncdeploy |")]
    assert len(rows) == result.stdout.count("\n## ") >= 2
