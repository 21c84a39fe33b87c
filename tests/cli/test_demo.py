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

BARE = """
import sys
sys.modules.update(uv=None, torch=None)  # as if they were not installed
import asyncdeploy.__main__
sys.exit(asyncdeploy.__main__.main())
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with nothing in it."""
    path = tmp_path / "home"
    path.mkdir()
    return path


def run_demo(home: Path, *words: str) -> str:
    """Run the demo to its end and return all that it said."""
    return run_python(home, "-m", "asyncdeploy", "demo", *words)


def run_python(home: Path, *words: str, path: str | None = None) -> str:
    """Run our Python to its end and return all that it said; ``path`` is another PATH than ours."""
    env = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"} | {"HOME": str(home)}
    env |= {"PATH": path} if path else {}
    command = [sys.executable, "-W", "error", *words]
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_z3_without_uv_on_a_machine_whose_python_is_called_python3(home: Path, tmp_path: Path) -> None:
    """As after a plain pip install on Debian: nothing is called `python` there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin", "/usr/sbin"):
        for path in Path(folder).iterdir():
            if path.name not in ("python", "python2", "uv") and not (tools / path.name).is_symlink():
                (tools / path.name).symlink_to(path)
    if not (tools / "python3").exists():
        (tools / "python3").symlink_to(sys.executable)
    words = ("-c", BARE, "demo", "--results", str(tmp_path / "results"))
    said = run_python(home, *words, path=str(tools))
    assert "uv is not installed here" in said
    check_tour(said, [f"local-{rank}" for rank in range(4)], tmp_path / "results", made=False)


def own_key(home: Path, sshd: SshdNode) -> None:
    """Make the key that the node lets in the user's own."""
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(str(sshd.node.key_path), home / ".ssh" / "id_ed25519")


def check_tour(said: str, nodes: Sequence[str], results: Path, *, made: bool = True) -> None:
    """Check that every station of the tour was passed, on every node; an environment is made where there is uv."""
    for node in nodes:
        assert f"{node} push ok = unchanged" in said
        assert (f"{node} env ok" in said) == made
    assert "it ended with exit status 0" in said
    for rank, node in enumerate(nodes):
        assert f"rank {rank} of {len(nodes)}: step 2" in said
        found = json.loads((results / f"{rank}-{node}" / "sum.json").read_text())
        assert found == {"rank": rank, "sum": sum(range(2, 2 + len(nodes)))}  # torch's float, or counted without it
    assert "ROOT CAUSE" in said
    assert f"injected failure: rank {min(2, len(nodes) - 1)} gives up in step 1" in said.split("ROOT CAUSE")[1]


@pytest.mark.long
def test_four_nodes_in_one_process(home: Path, tmp_path: Path) -> None:
    said = run_demo(home, "--results", str(tmp_path / "results"))
    check_tour(said, [f"local-{rank}" for rank in range(4)], tmp_path / "results")
    assert "Next:" in said


@pytest.mark.long
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
