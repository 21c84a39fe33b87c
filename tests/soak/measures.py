"""What client and nodes hold: measured when all is at rest, and compared with what they held at first."""

import asyncio
import gc
import os
import resource
import threading
from collections.abc import Sequence
from pathlib import Path

import attrs

import asyncdeploy as ad
from tests.support import leaks
from tests.support.beds.sshd_node import SshdNode

PAGE = resource.getpagesize()
# What may be more than at first. Memory: what Python and its allocator keep of the largest work so far. Threads: idle
# ones end after some seconds. A node: the second connection of a pool, its channels, a worker at rest in each.
MORE = {
    "client MB": 32.0,
    "client objects": 5000,
    "client descriptors": 4,
    "client tasks": 4,
    "client threads": 8,
    "node processes": 8,
    "node MB": 1.0,
    "node files": 40,
}
A_NODE = ("client descriptors", "client tasks", "node processes", "node files")


def memory_mb() -> float:
    """What this process holds of the machine's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def size_of(folder: Path) -> tuple[int, int]:
    """How many bytes and files lie below a folder."""
    found = [entry.stat(follow_symlinks=False) for top, _, names in os.walk(folder) for entry in _entries(top, names)]
    return sum(512 * each.st_blocks for each in found), len(found)


def _entries(top: str, names: list[str]) -> list["os.DirEntry[str]"]:
    with os.scandir(top) as entries:
        return [entry for entry in entries if entry.name in names]


@attrs.frozen
class Held:
    """What is held at one moment."""

    at_s: float
    figures: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in self.figures.items())

    def more_than(self, first: "Held", nodes: int) -> list[str]:
        """What there is more of than there may be."""
        slack = {name: more * (nodes if name in A_NODE else 1) for name, more in MORE.items()}
        return [
            f"{name}: {value:g}, at first {first.figures[name]:g}"
            for name, value in self.figures.items()
            if value > first.figures[name] + slack.get(name, 0)
        ]


async def held(nodes: Sequence[SshdNode], pool: ad.Pool, at_s: float) -> Held:
    """Measure; the nodes are cleaned of what is no longer used, and each is asked something, before."""
    (await ad.clean([sshd.node for sshd in nodes], older_than_s=0, pool=pool)).unwrap()
    (await ad.run_all([sshd.node for sshd in nodes], "true", pool=pool)).unwrap()
    gc.collect()
    sizes = [size_of(sshd.home) for sshd in nodes]
    figures = {
        "client MB": round(memory_mb(), 1),
        "client objects": len(gc.get_objects()),
        "client descriptors": len(leaks.open_descriptors()),
        "client tasks": len(asyncio.all_tasks()),
        "client threads": threading.active_count(),
        "client children": len(leaks.children()),
        "node processes": sum(len(sshd.processes()) for sshd in nodes),
        "node MB": round(sum(size for size, _ in sizes) / 1e6, 2),
        "node files": sum(files for _, files in sizes),
    }
    return Held(at_s, figures)
