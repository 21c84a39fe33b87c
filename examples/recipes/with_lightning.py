"""Lightning over all nodes: it finds each rank's place in the environment, and starts none itself.

In the script: Trainer(num_nodes=int(os.environ["ASYNCDEPLOY_NUM_NODES"]),
                       devices=int(os.environ["ASYNCDEPLOY_GPUS_PER_NODE"]), strategy="ddp")

launch = await ad.fan_out(nodes, project, lightning("train.py"))
"""

import asyncdeploy as ad


def lightning(script: str, *args: str, nproc_per_node: int | None = None) -> ad.Ranks:
    return ad.Ranks(ad.Command.of("python", script, *args), nproc_per_node=nproc_per_node, name="lightning")
