"""Where the blocks of the pages run: four real nodes called gpu1 to gpu4, a project beside us, a home of our own."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode

TRAIN = """\
import os, pathlib, sys
pathlib.Path("results").mkdir(exist_ok=True)
pathlib.Path("results", "loss.json").write_text("0.1")
print("rank", os.environ.get("RANK", "-"), "of", os.environ.get("WORLD_SIZE", "-"), *sys.argv[1:])
"""
DRIVER = """\
from distributed import Client

with Client() as client:
    print(sum(client.gather(client.map(abs, range(4)))))
"""
PYPROJECT = """\
[project]
name = "project"
version = "1"
requires-python = ">=3.9"
[project.optional-dependencies]
train = []
"""


@pytest.fixture
def world(sshd_nodes: Sequence[SshdNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[SshdNode]:
    """The nodes by their aliases in ~/.ssh/config, and the folder in which a reader would be."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(mode=0o700, parents=True)
    shutil.copy(str(sshd_nodes[0].node.key_path), folder / "id_ed25519")
    known, hosts = "", ""
    for number, sshd in enumerate(sshd_nodes, 1):
        known += sshd.known_hosts_lines
        hosts += f"Host gpu{number}\n  HostName {sshd.node.host}\n  Port {sshd.node.port}\n  User root\n"
    (folder / "known_hosts").write_text(known)
    write_config(tmp_path, hosts)
    project = tmp_path / "work" / "project"
    project.mkdir(parents=True)
    for name in ("train.py", "eval.py"):
        (project / name).write_text(TRAIN)
    (project / "driver.py").write_text(DRIVER)
    (project / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", "s3cr3t")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(project.parent)
    return sshd_nodes


def write_config(folder: Path, text: str) -> None:
    """Make an ssh whose system-wide config this is: a user's own lies where /etc/passwd says, which is not ours."""
    (folder / "bin").mkdir()
    (folder / "etc" / "ssh").mkdir(parents=True)
    config, ssh = folder / "etc" / "ssh" / "ssh_config", folder / "bin" / "ssh"
    config.write_text(text)
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    ssh.chmod(0o755)
