"""A Ray cluster over all nodes for as long as one script runs: it runs on node rank 0, beside the head.

In the script: ray.init(address="auto")

launch = await ad.fan_out(nodes, project, ray_cluster("driver.py"))
"""

import shlex

import asyncdeploy as ad

GONE = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))) == 0)"


def ray_cluster(script: str, *args: str) -> ad.Ranks:
    def command(plan: ad.Placement, node_rank: int) -> ad.Command:
        head, start = f"{plan.master_addr} {plan.master_port}", "ray start --disable-usage-stats"
        if node_rank == 0:  # what Ray leaves behind when the script has ended is ended with it
            where = f"--head --node-ip-address={plan.master_addr} --port={plan.master_port} --include-dashboard=false"
            return ad.Command(f"{start} {where} && {shlex.join(['python', script, *args])}")
        # A worker ends well when the head has gone, whose own end tells how it went, and badly while it is there.
        env = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # how long it looks for a head that has gone; else 60
        join = f"{start} --address={plan.master_addr}:{plan.master_port} --block"
        return ad.Command(f"{join}; exec python -c {shlex.quote(GONE)} {head}", env=env)

    return ad.Ranks(command, each="node", name="ray", opens_port=True)
