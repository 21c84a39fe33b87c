"""asyncdeploy as a whole process, through its public face only: ``python -m benchmarks.driver VERB NODES ...``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import asyncdeploy as ad


def read_nodes(path: str) -> tuple[ad.Node, ...]:
    """Return the bed's nodes."""
    return tuple(ad.Node.from_dict(item) for item in json.loads(Path(path).read_text()))


def new_pool(nodes_path: str) -> ad.Pool:
    """Return a pool that trusts the bed's host keys."""
    known_hosts = Path(nodes_path).parent.parent / "known_hosts"
    return ad.Pool(host_keys=ad.HostKeys.strict(known_hosts))


async def run(nodes_path: str, line: str, folder: str) -> None:
    """Run one command on every node, its output into a file each."""
    nodes = read_nodes(nodes_path)

    def command(node: ad.Node) -> ad.Command:
        return ad.Command(line, stdout_to=Path(folder, node.name))

    async with new_pool(nodes_path) as pool:
        (await ad.run_all(nodes, command, pool=pool, at_once=len(nodes))).unwrap()


async def warm(nodes_path: str, line: str, count: str, at_once: str, marks: str) -> None:
    """Open every connection, then run ``count`` commands over them, ``at_once`` at a time on each node."""
    nodes = read_nodes(nodes_path)
    share = int(count) // len(nodes)
    async with new_pool(nodes_path) as pool:

        async def work(node: ad.Node, number: int) -> None:
            for _ in range(number):
                (await ad.run_command(pool.at(node), line)).check()

        (await ad.run_all(nodes, "true", pool=pool, at_once=len(nodes))).unwrap()
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                for number in range(int(at_once)):
                    group.create_task(work(node, len(range(number, share, int(at_once)))))
        Path(marks).write_text(f"begin {begin}\nend {time.monotonic()}\n")


async def push(nodes_path: str, source: str, target: str, pauses: str = "") -> None:
    """Make ``target`` on every node equal to ``source``; the loop's longest pause goes into a file."""
    nodes = read_nodes(nodes_path)
    workspace = ad.Workspace(Path(source), remote_path=target)
    async with new_pool(nodes_path) as pool:
        pause = asyncio.create_task(longest_pause()) if pauses else None
        (await ad.push_all(nodes, workspace, pool=pool, at_once=len(nodes))).unwrap()
        if pause is not None:
            pause.cancel()
            Path(pauses).write_text(str(await pause))


async def longest_pause(tick_s: float = 0.005) -> float:
    """Return how much later than asked for the loop came back at the worst, once this is cancelled."""
    longest = 0.0
    try:
        while True:
            before = time.monotonic()
            await asyncio.sleep(tick_s)
            longest = max(longest, time.monotonic() - before - tick_s)
    except asyncio.CancelledError:
        return longest


async def collect(nodes_path: str, source: str, target: str) -> None:
    """Bring ``source`` of every node into ``target``/<name>."""
    nodes = read_nodes(nodes_path)
    async with new_pool(nodes_path) as pool:
        report = await ad.map_nodes(
            nodes, lambda node: ad.sync_results(pool.at(node), source, Path(target, node.name)), at_once=len(nodes)
        )
        report.unwrap()


if __name__ == "__main__":
    asyncio.run({"run": run, "warm": warm, "push": push, "collect": collect}[sys.argv[1]](*sys.argv[2:]))
