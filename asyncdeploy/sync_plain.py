"""Results from a node without python3."""

from __future__ import annotations

from asyncdeploy.errors import ToolMissing
from asyncdeploy.extract import Target
from asyncdeploy.transport import Remote
from asyncdeploy.workspace import Collected


async def sync_plain(remote: Remote, source: str, local: Target) -> Collected:  # noqa: ARG001
    """Collect by plain sh and tar."""
    raise ToolMissing(remote.node.name, "python3 >= 3.8 is needed on the node to collect", tool="python3")
