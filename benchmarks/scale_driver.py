"""One client of many nodes, step after step over one pool; prints what each step took as JSON.

python -m benchmarks.scale_driver NODES SOURCE
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import asyncdeploy as ad
from benchmarks.driver import new_pool, read_nodes

TICK_S = 0.01
AT_ONCE = 64


class Pauses:
    """How long the loop keeps others waiting: what it works between two looks that are 10 ms apart.

    By the processor time of its thread, as the nodes share our cores and the clock would tell of them.
    """

    def __init__(self) -> None:
        self.found: list[float] = []

    async def look(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(TICK_S)
            self.found.append(time.thread_time() - before)


def memory_kb() -> int:
    """Return what this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def measure(step: Callable[[], Awaitable[Any]], nodes: int, before_kb: int) -> dict[str, float]:
    """Do a step; return its seconds, our CPU, the loop's pauses, and what a node has come to take of our memory."""
    pauses = Pauses()
    looking = asyncio.create_task(pauses.look())
    await asyncio.sleep(3 * TICK_S)
    clock, cpu = time.monotonic(), time.process_time()
    await step()
    cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    await asyncio.sleep(3 * TICK_S)  # so that a pause at the very end is seen, too
    looking.cancel()
    p99 = statistics.quantiles(pauses.found, n=100, method="inclusive")[98] if len(pauses.found) > 1 else 0.0
    kept = (memory_kb() - before_kb) / nodes
    return {"wall_s": clock, "cpu_s": cpu, "p99_ms": p99 * 1e3, "max_ms": max(pauses.found) * 1e3, "node_kb": kept}


async def steps(nodes_path: str, source: str) -> dict[str, dict[str, float]]:
    """Connect, run, deploy, deploy again, plan a launch; and show the reports."""
    nodes, workspace, env = read_nodes(nodes_path), ad.Workspace(source, remote_path="~/ws"), ad.SystemEnv()
    launcher = ad.Torchrun("train.py", nproc_per_node=1)
    reports: list[Any] = []
    _ = ad.deploy_all, ad.run_all, ad.plan_all  # their rooms are imported now: no node's doing
    async with new_pool(nodes_path) as pool:

        async def connect() -> None:
            (await ad.map_nodes(nodes, lambda node: pool.at(node).connection(), at_once=AT_ONCE)).unwrap()

        async def run() -> None:
            reports.append(await ad.run_all(nodes, "echo $HOME", pool=pool, at_once=AT_ONCE))
            assert len({completed.stdout for completed in reports[-1].unwrap()}) == len(nodes)

        async def deploy() -> None:
            reports.append(await ad.deploy_all(nodes, workspace, env, pool=pool, at_once=AT_ONCE))
            reports[-1].unwrap()

        async def plan() -> None:
            reports.append(await ad.plan_all(nodes, workspace, env, launcher=launcher, pool=pool))
            assert len(reports[-1].nodes) == len(nodes)

        async def report() -> None:
            for each in reports:  # in a turn of the loop each: what a person asks for does not wait for others
                for show in (each.describe, each.table().as_html, lambda each=each: json.dumps(each.to_dict())):
                    assert show()
                    await asyncio.sleep(0)
            assert all(reports[0][node].ok for node in nodes)

        before = memory_kb()
        found = {}
        for name, step in each_step((connect, run, deploy, deploy, plan, report)):
            found[name] = await measure(step, len(nodes), before)
    return found


def each_step(every: Iterable[Callable[[], Awaitable[None]]]) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
    """Yield steps with their names; one that comes again is done with nothing changed."""
    seen: set[str] = set()
    for step in every:
        name = step.__name__ if step.__name__ not in seen else f"{step.__name__} again"
        seen.add(name)
        yield name, step


if __name__ == "__main__":
    print(json.dumps(asyncio.run(steps(*sys.argv[1:]))))
