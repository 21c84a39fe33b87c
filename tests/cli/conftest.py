"""A person at a shell: a home, a project's folder, four nodes that the home has seen before."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, command_line


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """The command in a home that knows nobody."""
    return command_line(tmp_path / "home", tmp_path / "project")


@pytest.fixture
def ad(tmp_path: Path, sshd_nodes: Sequence[SshdNode]) -> CommandLine:
    """The command in a home that knows the four nodes."""
    return command_line(tmp_path / "home", tmp_path / "project", sshd_nodes)
