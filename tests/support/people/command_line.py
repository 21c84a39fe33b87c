"""The command line as people have it: a process of its own, in a home of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.support.beds.sshd_node import SshdNode
from tests.support.places import ROOT

OURS = ("ASYNCDEPLOY_", "SLURM_", "XDG_", "NO_COLOR", "FORCE_COLOR", "CI", "SSH_AUTH_SOCK", "TERM", "LC_", "LANG")


@attrs.frozen
class Said:
    """What a call of it has left."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Each line of stdout, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@attrs.frozen
class CommandLine:
    """A person's home and project folder, and the command."""

    home: Path
    folder: Path

    def environ(self, **more: str) -> dict[str, str]:
        """The variables of a plain session."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        return kept | {"HOME": str(self.home), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "TERM": "xterm"} | more

    def words(self, *words: str) -> list[str]:
        """The argv of a call."""
        return [sys.executable, "-W", "error", "-m", "asyncdeploy", *words]

    def __call__(self, *words: str, given: str = "", within_s: float = 60, **environ: str) -> Said:
        done = subprocess.run(
            self.words(*words),
            cwd=self.folder,
            env=self.environ(**environ),
            input=given,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


def command_line(home: Path, folder: Path, nodes: Sequence[SshdNode] = ()) -> CommandLine:
    """A home whose key lets into the nodes, which it has seen before."""
    (home / ".ssh").mkdir(mode=0o700, parents=True)
    folder.mkdir(exist_ok=True)
    if nodes:
        shutil.copy(str(nodes[0].node.key_path), home / ".ssh" / "id_ed25519")
        shutil.copy(nodes[0].known_hosts, home / ".ssh" / "known_hosts")
    return CommandLine(home, folder)


def hosts(nodes: Sequence[SshdNode]) -> list[str]:
    """The nodes as people write them."""
    return [f"{each.node.user}@{each.node.host}:{each.node.port}" for each in nodes]


def names(nodes: Sequence[SshdNode]) -> list[str]:
    """What they are called then."""
    return [f"{each.node.host}-{each.node.port}" for each in nodes]
