"""accelerate over all nodes: one `accelerate launch` a node, told who it is; it starts that node's ranks itself.

launch = await ad.fan_out(nodes, project, accelerate("train.py", "--lr", "3e-4"))
"""

import asyncdeploy as ad


def accelerate(script: str, *args: str, nproc_per_node: int | None = None) -> ad.Ranks:
    def command(plan: ad.Placement, node_rank: int) -> ad.Command:
        return ad.Command.of(
            *("accelerate", "launch", "--multi_gpu", "--rdzv_backend=static", "--mixed_precision=no"),
            *("--dynamo_backend=no", f"--num_machines={len(plan.places)}", f"--machine_rank={node_rank}"),
            *(f"--num_processes={plan.world_size}", f"--main_process_ip={plan.master_addr}"),
            *(f"--main_process_port={plan.master_port}", script, *args),
        )

    return ad.Ranks(command, nproc_per_node=nproc_per_node, each="node", name="accelerate", opens_port=True)
