"""A node with three kinds of host keys, and what they are."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]


@pytest.fixture
def sshd(start_sshd: StartSshd) -> SshdNode:
    """A node with three kinds of host keys."""
    return start_sshd("machine")


@pytest.fixture
def keys(sshd: SshdNode, tmp_path: Path) -> dict[str, str]:
    """The public keys of the node, and one of another machine, by what they are called in `Case`."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    paths = {kind: sshd.public_key(kind) for kind in ("ed25519", "ecdsa", "rsa")}
    found = {kind: path.read_text() for kind, path in {**paths, "other": other.with_suffix(".pub")}.items()}
    return {kind: " ".join(text.split()[:2]) for kind, text in found.items()}
