"""Attach to a launch that somebody started, from any machine that may log in: by its id and its nodes.

python examples/attach.py train-7f3kq2ab follow root@gpu-1 root@gpu-2       (or wait, or stop)
"""

import asyncio
import sys

import asyncdeploy as ad


async def main(launch_id: str, verb: str, *nodes: str) -> int:
    async with ad.Pool() as pool:
        launch = await ad.find_launch(nodes, launch_id, pool=pool)
        if verb == "follow":  # from the first line on; Ctrl-C leaves the launch as it is
            async with ad.follow_launch(launch, pool=pool) as lines:
                async for line in lines:
                    print(f"{line.node_rank} {line.node}: {line.text}")
        report = await (ad.stop_launch if verb == "stop" else ad.wait_launch)(launch, pool=pool)
        for outcome in report:
            print(outcome.node.name, outcome.error or "done")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
