"""Every Python block of the README and the pages runs, a page as one session, on real nodes."""

import ast
import asyncio
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import asyncdeploy
from asyncdeploy.envs.uv import UvEnv
from tests.support.beds.sshd_node import SshdNode
from tests.support.examples import OurPython
from tests.support.links import free_port
from tests.support.places import ROOT
from tests.support.tools import need_torch

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if BLOCK.search(path.read_text()))
# What stands for a reader's own machines, and for a port of theirs.
PLACES = {'"root@203.0.113.7:41234", "root@203.0.113.8:40022"': '"gpu1", "gpu2"', "6006": str(free_port())}


def blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks of a page, each with the line at which it begins."""
    text = page.read_text()
    return [(text.count("\n", 0, found.start()) + 2, found.group(1)) for found in BLOCK.finditer(text)]


async def run_block(text: str, where: str, line: int, names: dict[str, Any]) -> None:
    """Run a block as a notebook does: ``await`` may stand at its top, and ``asyncio.run`` has a thread of its own."""
    tree = ast.increment_lineno(ast.parse(text, where), line - 1)
    code = compile(tree, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        await eval(code, names)
    else:
        await asyncio.to_thread(exec, code, names)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_every_block_of_a_page_runs(
    page: Path, world: Sequence[SshdNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing large is downloaded: where a block makes an environment for torchrun or Dask, it is these tests' own."""
    names: dict[str, Any] = {name: getattr(asyncdeploy, name) for name in asyncdeploy.__all__}
    names.update(
        ad=asyncdeploy, asyncio=asyncio, nodes=asyncdeploy.parse_nodes("gpu[1-2]"), token="s3cr3t", __name__="__main__"
    )
    for line, text in blocks(page):
        for ours, theirs in PLACES.items():
            text = text.replace(ours, theirs)
        if "Torchrun" in text:
            need_torch()
        if "Torchrun" in text or "dask" in text.lower():
            monkeypatch.setattr(UvEnv, "enter", lambda _self, *args: OurPython().enter(*args))
        await run_block(text, str(page), line, names)
