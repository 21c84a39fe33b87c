"""Programs of node_side as what is sent: source, or code compiled for a Python like ours."""

from __future__ import annotations

import functools
import marshal
import re
from pathlib import Path

NEEDS = {
    "run": ("processes",),
    "jobs": ("processes", "job_folder", "log_times", "guard", "logout", "disturbances", "oom", "gang", "supervisor"),
    "stacks": ("processes", "flight_recorder"),
}
"""Programs that load others on the node (``worker.load``); those are sent with them."""
_PART = re.compile(rb"^from asyncdeploy\.node_side\.(?:\w+\.)?(\w+) import (?:\([^)]*\)|[^(\n]*)$", re.MULTILINE)


@functools.cache
def _files() -> dict[str, Path]:
    return {path.stem: path for path in (Path(__file__).parent.parent / "node_side").rglob("*.py")}


@functools.cache
def program_source(name: str) -> bytes:
    """Return the source of a node_side program; what it imports of node_side is put in once, at the import's place."""
    placed: set[str] = set()

    def read(part: str) -> bytes:
        if part in placed:
            return b""
        placed.add(part)
        source = _files()[part].read_bytes()
        return _PART.sub(lambda found: read(found[1].decode()), source)

    return read(name)


@functools.cache
def program_code(name: str) -> bytes:
    """Return a node_side program compiled, for a node whose Python is of our version: compiling costs it 1 to 7 ms."""
    return b"\0" + marshal.dumps(compile(program_source(name), f"<asyncdeploy {name}>", "exec", optimize=2))
