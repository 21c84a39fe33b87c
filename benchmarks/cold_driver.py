"""Cold starts on request: each line on stdin is a case; the answer is how long it took against a fresh worker, in wall
seconds and in CPU seconds of the node's part.

Stands alone, so that another checkout's code can be measured by it: ``PYTHONPATH=CHECKOUT python -P cold_driver.py``.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import asyncdeploy as ad

try:
    from tests.support.remotes.shell_remote import ShellChannel, ShellRemote
except ImportError:  # where a checkout of 0.1 has it
    from tests.support.shell_remote import ShellChannel, ShellRemote  # type: ignore[no-redef]


class OtherPython(ShellRemote):
    """A node whose Python says of itself that it is another one than ours: it is sent source."""

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        """Run the line that asks for its version with an answer that is no truth."""
        line = line.replace("sys.hexversion", "0x30800f0").replace("sys.implementation.cache_tag", "0")
        return await super().open(line, kind=kind)


def children_cpu() -> float:
    """Return the CPU seconds of all processes that we started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def measure(case: str, folder: Path, bundle: ad.Bundle) -> tuple[float, float]:
    """Return how long one case takes against a node that has never seen us, and the node's CPU seconds."""
    verb, text = case.split()
    before = children_cpu()
    kind = {"source": OtherPython, "compiled": ShellRemote}[text]
    async with kind(Path(tempfile.mkdtemp(dir=folder))) as remote:
        start = time.perf_counter()
        if verb == "run":
            await ad.run_command(remote, "true", check=True)
        else:
            await ad.push_code(remote, bundle)
        wall = time.perf_counter() - start
    return wall, children_cpu() - before


async def serve(folder: Path) -> None:
    """Answer until stdin ends."""
    tree = folder / "tree"
    (tree / "pkg").mkdir(parents=True)
    for name in ("train.py", "pkg/__init__.py", "pkg/model.py"):
        (tree / name).write_text(f"# {name}\n")
    async with ad.pack_workspace(tree) as bundle:
        for line in sys.stdin:
            print(*await measure(line.strip(), folder, bundle), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="asyncdeploy-cold-") as scratch:
        asyncio.run(serve(Path(scratch)))
