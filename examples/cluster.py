"""Run a program beside a Dask or Ray cluster that stands on these nodes as long as the program runs.

python examples/cluster.py dask ./project "python dask_array.py" root@gpu-1 root@gpu-2        (or ray, ray_data.py)

The programs are in examples/drivers. The project's environment has the engine: uv add distributed, or uv add ray.
"""

import asyncio
import sys

import asyncdeploy as ad

ENV = ad.UvEnv()


async def main(engine: str, project: str, command: str, *nodes: str, env: ad.Env = ENV) -> int:
    cluster = ad.ray_cluster if engine == "ray" else ad.dask_cluster
    async with ad.Pool(observer=ad.print_events()) as pool:
        async with cluster(nodes, project, env, pool=pool) as running:  # all nodes are in it
            completed = await running.run(command)
    print(completed.text)
    return completed.status or 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
