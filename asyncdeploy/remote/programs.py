"""Programs of node_side as what is sent: their source, or code compiled for a Python whose bytecode is ours."""

from __future__ import annotations

import functools
import importlib.util
import marshal
import re
import sys

from asyncdeploy.values.regex import regex
from asyncdeploy.values.texts import is_packaged, packaged_text

BYTECODE = f"{sys.implementation.cache_tag}-{int.from_bytes(importlib.util.MAGIC_NUMBER[:2], 'little')}"
"""What a Python must say of itself to run what ours compiled; PyPy and alphas have the same version numbers."""

_IMPORT = regex(r"^ *from asyncdeploy\.node_side\.?([\w.]*) import (\([^)]*\)|[^#\n]*)", re.MULTILINE)


@functools.cache
def needed(program: str) -> tuple[str, ...]:
    """Return a program and all that it imports of node_side: what a node must have been sent to run it.

    Args:
        program: a module below node_side, "push.receiver".
    """
    found: dict[str, None] = {program: None}
    waiting = [program]
    while waiting:
        parts = [part for part in _imports(program_source(waiting.pop()).decode("ascii")) if part not in found]
        found |= dict.fromkeys(parts)
        waiting += parts
    return tuple(found)


def _imports(source: str) -> list[str]:
    """Return the modules below node_side that a source imports, also where it does so in a function."""
    found = []
    for place, names in _IMPORT.findall(source):
        for name in re.findall(r"(\w+)(?: as \w+)?", names):
            module = f"{place}.{name}".lstrip(".")
            found.append(module if is_packaged(_path(module)) else place)
    return found


def _path(module: str) -> str:
    return f"node_side/{module.replace('.', '/')}.py"


def program_source(module: str) -> bytes:
    """Return the source of a module below node_side."""
    return packaged_text(_path(module)).encode("ascii")


@functools.cache
def program_code(module: str) -> bytes:
    """Return a module below node_side compiled, for a node whose bytecode is ours: compiling costs it 1 to 7 ms."""
    return b"\0" + marshal.dumps(compile(program_source(module), f"<asyncdeploy {module}>", "exec", optimize=2))
