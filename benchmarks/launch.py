"""What a launch costs beyond its ranks' own time: preflight, start and end on N nodes, connections open."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable
from typing import TypeVar

import asyncdeploy as ad
from benchmarks.bed import Bed, bed_of
from benchmarks.measure import options, save

T = TypeVar("T")
LINE = "while :; do sleep 1; done"


class Clock:
    """Seconds of each step, run by run."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    async def time(self, name: str, work: Awaitable[T]) -> T:
        """Do it and note how long it took."""
        began = time.monotonic()
        result = await work
        self.seconds.setdefault(name, []).append(time.monotonic() - began)
        return result


async def steps(bed: Bed, repeat: int) -> dict[str, float]:
    """Return medians: of bare detached jobs, of a preflight, of a launch from the last bootstrap to all ranks up."""
    nodes, clock = [ad.Node.from_dict(each) for each in json.loads(bed.nodes_file.read_text())], Clock()
    async with ad.Pool(host_keys=ad.HostKeys.strict(bed.known_hosts)) as pool:
        facts = (await ad.map_nodes(nodes, lambda node: ad.probe_node(pool.at(node)))).unwrap()
        standing = [
            ad.Deployment(node, ad.Site("/tmp"), ad.SystemEnv(), known)
            for node, known in zip(nodes, facts, strict=True)
        ]
        for _ in range(repeat):
            jobs = await clock.time(
                "a detached job on each",
                ad.map_nodes(nodes, lambda node: ad.start_job(pool.at(node), LINE, name="bare"), at_once=128),
            )
            for job in jobs.unwrap():
                await ad.stop_job(pool.at(job.node), job, grace_s=1)
            verdict = await clock.time("preflight", ad.preflight(nodes, pool=pool))
            verdict.check()
            program = ad.Ranks(LINE, nproc_per_node=1)
            launch = await clock.time("asyncdeploy", ad.start_launch(pool, standing, program, grace_s=1))
            await clock.time("stop_launch", ad.stop_launch(launch, pool=pool))
    return {name: statistics.median(values) for name, values in clock.seconds.items()}


def main() -> None:
    """Run all cases."""
    args = options(__doc__ or "")
    for count in [args.hosts] if args.hosts else [2, 3] if args.tiny else [8, 16]:
        with bed_of(count) as bed:
            rows = asyncio.run(steps(bed, 1 if args.tiny else args.repeat))
        title = f"ranks on {count} nodes"
        print(f"\n## {title}\n\n| | s |\n|---|---|")
        for name, seconds in rows.items():
            print(f"| {name} | {seconds:.3f} |")
        print(f"\n{rows['asyncdeploy'] / rows['a detached job on each']:.2f} of bare jobs", flush=True)
        save(title, {name: {"wall_s": round(value, 4)} for name, value in rows.items()}, args)


if __name__ == "__main__":
    main()
