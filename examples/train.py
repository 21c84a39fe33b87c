"""Train on all nodes together: push, environment, torchrun with explicit ranks, live output, results home.

python examples/train.py ./project train.py root@gpu-1 root@gpu-2
"""

import asyncio
import sys

import asyncdeploy as ad

ENV = ad.UvEnv()  # `uv sync`; an extra, say: ad.UvEnv("train")


async def main(project: str, script: str, *nodes: str, env: ad.Env = ENV) -> None:
    async with ad.Pool(observer=ad.print_events()) as pool:
        launch = await ad.fan_out(nodes, project, ad.Torchrun(script), env, pool=pool)
        launch.save(f"{launch.id}.json")  # whoever has this file, or the id and the nodes, can attach (attach.py)
        async with ad.follow_launch(launch, pool=pool) as lines:
            async for line in lines:
                print(f"{line.node_rank} {line.node}: {line.text}")
        results = await ad.collect_all(launch, "results", "./results", pool=pool)  # also of a launch that failed
        (await ad.wait_launch(launch, pool=pool)).unwrap()
        results.unwrap()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
