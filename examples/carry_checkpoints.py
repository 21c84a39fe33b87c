"""A launch that is tried again on a spare, which first gets the checkpoints of a node that is still there.

python examples/carry_checkpoints.py train.py root@gpu-1 root@gpu-2 -- root@spare-1

train.py writes into checkpoints/ on every node, and begins from what it finds there. Where checkpoints are sharded
bring each node its own: from shared storage, or from the node that kept a copy.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import asyncdeploy as ad

FOLDER = "checkpoints"


async def carry(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
    """Bring the checkpoints of a node that took part to those that did not; called between two attempts."""
    stayed = [each for each in following if each.node in failed.nodes]
    came = [each for each in following if each.node not in failed.nodes]
    if not stayed or not came:
        return
    async with ad.Pool() as pool:
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder) / "checkpoints.tar"
            await ad.run_in_project(pool, stayed[0], ad.Command(f"tar -cf - {FOLDER}", stdout_to=packed), check=True)
            for each in came:
                await ad.run_in_project(pool, each, ad.Command("tar -xf -", stdin=packed), check=True)


async def main(script: str, nodes: Sequence[str], spares: Sequence[str], env: ad.Env | None = None) -> int:
    launch = await ad.fan_out(
        nodes,
        ad.Workspace("."),
        ad.Torchrun(script),
        env or ad.UvEnv(),
        grace_s=60,
        restart=ad.Restart(times=3, between=carry),
        spares=spares,
    )
    report = await ad.wait_launch(launch)
    for outcome in report:
        print(outcome.node.name, outcome.error or "done")
    return 0 if report.ok else 1


if __name__ == "__main__":
    words = sys.argv[2:]
    end = words.index("--") if "--" in words else len(words)
    sys.exit(asyncio.run(main(sys.argv[1], words[:end], words[end + 1 :])))
