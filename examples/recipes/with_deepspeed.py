"""DeepSpeed over all nodes without ssh between them: its launcher once a node, with a hostfile that we write.

launch = await ad.fan_out(nodes, project, deepspeed("train.py", "--deepspeed_config", "ds.json"))
"""

import shlex

import asyncdeploy as ad


def deepspeed(script: str, *args: str, nproc_per_node: int | None = None) -> ad.Ranks:
    def command(plan: ad.Placement, node_rank: int) -> ad.Command:
        # With --no_ssh the names are only labels: the node is the one that stands at its rank.
        hosts = "\n".join(f"node-{place.node_rank} slots={place.nproc}" for place in plan.places)
        words = [f"--node_rank={node_rank}", f"--master_addr={plan.master_addr}", f"--master_port={plan.master_port}"]
        file = '"$ASYNCDEPLOY_LOG_FOLDER"/hostfile'
        line = f"printf '%s\\n' {shlex.quote(hosts)} > {file} && exec deepspeed --no_ssh --hostfile={file}"
        return ad.Command(f"{line} {shlex.join([*words, script, *args])}")

    return ad.Ranks(command, nproc_per_node=nproc_per_node, each="node", name="deepspeed")
