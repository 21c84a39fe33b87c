"""Run a command on a node without python3: the leash in plain sh."""

from __future__ import annotations

from asyncdeploy.command import Command, Completed
from asyncdeploy.errors import ToolMissing
from asyncdeploy.output import Output
from asyncdeploy.transport import Remote


async def run_plain(remote: Remote, command: Command, output: Output) -> Completed:  # noqa: ARG001
    """Run a command by plain sh."""
    raise ToolMissing(remote.node.name, "python3 >= 3.8 is needed on the node", tool="python3")
