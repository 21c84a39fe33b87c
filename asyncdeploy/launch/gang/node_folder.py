"""What a launch's ranks need beside them on a node, and what they left there when they failed."""

from __future__ import annotations

import functools
import json
from pathlib import PurePosixPath
from typing import Any

from asyncdeploy.remote.programs import needed
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask, call_once
from asyncdeploy.values.texts import packaged_text

_TOOLS = {
    "rank_runner.py": "launch.rank_runner",
    "torchrun.py": "launch.torchrun",
    "python/sitecustomize.py": "launch.rank_shim",
}
"""Where in the launch's folder "tools" each program of node_side stands; what they import lies there as a package."""


async def place_tools(remote: Remote, launch_id: str, prover: str = "") -> None:
    """Put what starts ranks, and what notes their exceptions, into the launch's folder on a node.

    Args:
        remote: the node.
        launch_id: the launch.
        prover: of an engine, the program that sees who has joined it; it is put there beside what runs drivers.

    Raises:
        ToolMissing: the node has no python3.
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    await call_once(remote, "launch.launch_folder", b"tools\0" + launch_id.encode() + b"\0" + tools_of(prover))


async def gather_evidence(remote: Remote, launch_id: str, node_rank: int, job_id: str) -> dict[str, Any]:
    """Return what a node's ranks left behind when they failed, as rank_evidence.py says.

    Raises:
        ProtocolError: the answer is no object.
        ConnectionLost, ConnectError, ...: the node could not be asked.
    """
    request = {"launch": launch_id, "node_rank": node_rank, "job": job_id}
    return (await ask(remote, "launch.rank_evidence", request, what="what its failed ranks left")).object()


@functools.cache
def tools_of(prover: str) -> bytes:
    """Return what starts ranks and notes their exceptions, as the node's program takes it; see ``place_tools``."""
    programs = dict(_TOOLS)
    if prover:
        programs |= {f"{name}.py": f"engines.{name}" for name in ("driver", prover)}
    found = {path: packaged_text(_source(name)) for path, name in programs.items()}
    for path in [_source(part) for name in programs.values() for part in needed(name)[1:]]:
        found |= {f"asyncdeploy/{path}": packaged_text(path)}
        found |= {str("asyncdeploy" / folder / "__init__.py"): "" for folder in PurePosixPath(path).parents}
    return json.dumps(found).encode()


def _source(module: str) -> str:
    return f"node_side/{module.replace('.', '/')}.py"
