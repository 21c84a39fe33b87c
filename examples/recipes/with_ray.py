"""A Ray cluster over all nodes for as long as one script runs: it runs on node rank 0, beside the head.

In the script: ray.init()

launch = await ad.fan_out(nodes, project, ray_cluster("driver.py"))
"""

import secrets
import shlex

import asyncdeploy as ad

# Ray keeps 10002 to 19999 for workers unless told, where the head's port may lie; these end 5 s after it, not 60.
START = "ray start --disable-usage-stats --min-worker-port=0 --max-worker-port=0 --node-ip-address="
ENV = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
GONE = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))) == 0)"


def ray_cluster(script: str, *args: str) -> ad.Ranks:
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}  # without one, whoever reaches the head runs code there
    env = {**ENV, "RAY_AUTH_MODE": "token"}  # said to each process, or ~/.ray/auth_token on its node decides

    def command(plan: ad.Placement, node_rank: int) -> ad.Command:
        head, start = f"{plan.master_addr}:{plan.master_port}", START + plan.places[node_rank].address
        if node_rank == 0:  # what Ray leaves behind when the script has ended is ended with it
            driver = f"RAY_ADDRESS={head} {shlex.join(['python', script, *args])}"  # not another Ray on this host
            line = f"{start} --head --port={plan.master_port} --include-dashboard=false && {driver}"
        else:  # a worker ends well when the head has gone, whose own end tells how it went, and badly while it is there
            gone = f"python -c {shlex.quote(GONE)} {plan.master_addr} {plan.master_port}"
            line = f"{start} --address={head} --block; exec {gone}"
        return ad.Command(line, env=env, secrets=token)

    return ad.Ranks(command, each="node", name="ray", opens_port=True)
