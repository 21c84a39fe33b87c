"""The demo as a new user meets it: one command, in this process alone and on real machines."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with nothing in it."""
    path = tmp_path / "home"
    path.mkdir()
    return path


def run_demo(home: Path, *words: str) -> str:
    """Run the demo to its end and return all that it said."""
    env = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"} | {"HOME": str(home)}
    command = [sys.executable, "-W", "error", "-m", "asyncdeploy", "demo", *words]
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


def own_key(home: Path, sshd: SshdNode) -> None:
    """Make the key that the node lets in the user's own."""
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(str(sshd.node.key_path), home / ".ssh" / "id_ed25519")


def check_tour(said: str, nodes: Sequence[str], results: Path) -> None:
    """Check that every station of the tour was passed, on every node."""
    for node in nodes:
        assert f"{node} push ok = unchanged" in said
        assert f"{node} env ok" in said
    assert "it ended with exit status 0" in said
    for rank, node in enumerate(nodes):
        assert f"rank {rank} of {len(nodes)}: step 2" in said
        found = json.loads((results / f"{rank}-{node}" / "sum.json").read_text())
        assert found == {"rank": rank, "sum": sum(range(2, 2 + len(nodes)))}  # torch's float, or counted without it
    assert "ROOT CAUSE" in said
    assert f"injected failure: rank {min(2, len(nodes) - 1)} gives up in step 1" in said.split("ROOT CAUSE")[1]


def test_four_nodes_in_one_process(home: Path, tmp_path: Path) -> None:
    said = run_demo(home, "--results", str(tmp_path / "results"))
    check_tour(said, [f"local-{rank}" for rank in range(4)], tmp_path / "results")
    assert "Next:" in said


def test_real_machines(sshd_nodes: Sequence[SshdNode], home: Path, tmp_path: Path) -> None:
    own_key(home, sshd_nodes[0])
    machines = sshd_nodes[:2]
    hosts = ",".join(f"{sshd.node.user}@{sshd.node.host}:{sshd.node.port}" for sshd in machines)
    said = run_demo(home, "--hosts", hosts, "--accept-new", "--results", str(tmp_path / "results"))
    names = [f"{sshd.node.host}-{sshd.node.port}" for sshd in machines]
    check_tour(said, names, tmp_path / "results")


def test_an_unknown_host_key_ends_it_with_the_way_to_accept_it(sshd_nodes: Sequence[SshdNode], home: Path) -> None:
    own_key(home, sshd_nodes[0])
    node = sshd_nodes[0].node
    command = [sys.executable, "-m", "asyncdeploy", "demo", "--hosts", f"root@{node.host}:{node.port}"]
    result = subprocess.run(command, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "SHA256:" in result.stderr
    assert "accept" in result.stderr
