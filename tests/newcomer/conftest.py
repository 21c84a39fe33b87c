"""A newcomer who has met four nodes, gpu1 to gpu4."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.newcomer import Newcomer, aliases, newcomer


@pytest.fixture
def person(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> Newcomer:
    """At a shell, in an empty folder called project."""
    return newcomer(tmp_path, aliases(sshd_nodes), sshd_nodes)
