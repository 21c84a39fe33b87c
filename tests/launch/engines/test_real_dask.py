"""Real Dask over real sshd nodes."""

from collections.abc import Sequence
from pathlib import Path

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.examples import OurPython

SQUARES = """\
from distributed import Client
from parts import square

with Client() as client:
    names = sorted(str(each["name"]) for each in client.scheduler_info(n_workers=-1)["workers"].values())
    print(sum(client.gather(client.map(square, range(10)))), *names, flush=True)
"""
PARTS = "def square(x):\n    return x * x\n"


async def test_a_driver_computes_on_all_nodes(sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path) -> None:
    (project / "driver.py").write_text(SQUARES)
    (project / "parts.py").write_text(PARTS)
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    cluster = ad.DaskCluster(workers=1)
    async with ad.dask_cluster(nodes, project, OurPython(), cluster=cluster, pool=pool) as dask:
        completed = await dask.run("python driver.py")
        assert completed.text == f"285 {' '.join(sorted(node.name for node in nodes))}", completed.stderr
    for sshd in sshd_nodes[:2]:
        assert [line for line in sshd.processes().values() if "dask" in line] == []
