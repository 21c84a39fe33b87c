"""A sweep: the same project on every node, another learning rate on each; one node's failure costs no other's result.

python examples/sweep.py ./project root@gpu-1 root@gpu-2 root@gpu-3
"""

import asyncio
import sys

import asyncdeploy as ad

RATES = ["1e-2", "1e-3", "1e-4", "1e-5"]


async def main(project: str, *texts: str) -> int:
    nodes = ad.parse_nodes(texts)
    rates = {node.name: rate for node, rate in zip(nodes, RATES)}  # noqa: B905 - as many as there are nodes
    async with ad.Pool(observer=ad.print_events()) as pool:
        report = await ad.deploy_and_run(
            nodes[: len(RATES)],
            project,
            lambda node: ad.Command.of("python", "train.py", "--lr", rates[node.name]),
            ad.UvEnv(),
            pool=pool,
        )
    for outcome in report:
        result = outcome.value.text.splitlines()[-1:] if outcome.value else []
        print(f"lr {rates[outcome.node.name]} on {outcome.node.name}: {outcome.state} {' '.join(result)}")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
