"""A project on a node, and a node that has uv and no network."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.values.workspace import Site
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.shell_remote import ShellRemote


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The project's folder on the node, empty."""
    (tmp_path / "home" / "proj").mkdir(parents=True)
    return tmp_path / "home" / "proj"


@pytest.fixture
def site(folder: Path) -> Site:
    """That folder as a site."""
    return Site(str(folder))


@pytest.fixture
def remote(remote: ShellRemote) -> ShellRemote:
    """A node without a network and with a uv in ~/.local/bin, which its PATH lacks."""
    remote.env |= {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    (remote.home / ".local/bin").mkdir(parents=True)
    (remote.home / ".local/bin/uv").symlink_to(find_uv_binary().path)
    return remote


@pytest.fixture
async def pool(sshd: SshdNode) -> AsyncIterator[Pool]:
    """A pool that trusts the module's own nodes, of which `sshd` is the first."""
    async with pool_for(sshd) as pool:
        yield pool
