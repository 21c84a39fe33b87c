"""Keys that no node knows, and a port that says nothing."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.tools import need


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., str]:
    """`make_key(name, passphrase="")`: the path of a new private key that no node knows."""
    need("ssh-keygen")

    def make(name: str, passphrase: str = "") -> str:
        path = tmp_path / name
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(words, check=True)
        return str(path)

    return make


@pytest.fixture
def key_path(make_key: Callable[..., str]) -> str:
    """A private key that no node knows."""
    return make_key("stranger")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]
