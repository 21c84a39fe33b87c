"""Detached jobs on a node without python3."""

from __future__ import annotations

from typing import Any

from asyncdeploy.command import Command
from asyncdeploy.errors import ToolMissing
from asyncdeploy.job import Job
from asyncdeploy.transport import Remote


async def start_plain(remote: Remote, job: Job, command: Command) -> dict[str, Any]:  # noqa: ARG001
    """Start a job by plain sh."""
    raise ToolMissing(remote.node.name, "python3 >= 3.8 is needed on the node for jobs", tool="python3")


async def ask_plain(remote: Remote, request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:  # noqa: ARG001
    """Answer a question about jobs by plain sh."""
    raise ToolMissing(remote.node.name, "python3 >= 3.8 is needed on the node for jobs", tool="python3")
