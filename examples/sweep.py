"""A sweep: four learning rates over any number of nodes, two at a time on each, a GPU a run where there are some.

One run's failure costs no other's result, and a node that is lost gives its run to another.

python examples/sweep.py ./project root@gpu-1 root@gpu-2
"""

import asyncio
import sys

import asyncdeploy as ad

RATES = ["1e-2", "1e-3", "1e-4", "1e-5"]


async def main(project: str, *nodes: str) -> int:
    runs = {f"lr={rate}": ad.Command.of("python", "train.py", "--lr", rate) for rate in RATES}
    failed = 0
    async with ad.Pool(observer=ad.print_events()) as pool:
        deployments = (await ad.deploy_all(nodes, project, ad.UvEnv(), pool=pool)).unwrap()
        async for done in ad.run_queue(deployments, runs, per_node=2, pool=pool):
            result = done.value.text.splitlines()[-1:] if done.value else []
            print(f"{done.label} on {done.node.name}: {done.state} {' '.join(result)}")
            failed += not done.ok
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
