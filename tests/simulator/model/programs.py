"""The programs that a simulated worker can be called for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.simulator.model import hands, jobs, runs

if TYPE_CHECKING:
    from tests.simulator.model.worker import Program, Worker


async def probe(worker: Worker, _args: bytes) -> bytes:
    """Say what the node is."""
    node = worker.node
    facts = {
        "home": "/home/sim",
        "user": "sim",
        "uid": 1000,
        "hostname": node.name,
        "system": "Linux",
        "arch": "x86_64",
        "libc": "glibc 2.36",
        "python": "/usr/bin/python3",
        "python_version": "3.11.2",
        "tools": [["bash", "/bin/bash"], ["tar", "/bin/tar"]],
        "cpus": 4,
        "memory_bytes": 1 << 34,
        "disks": [{"path": "/home/sim", "free_bytes": 0 if node.disk_is_full else 1 << 36, "total_bytes": 1 << 37}],
        "addresses": [["eth0", f"10.0.0.{10 + list(node.world.nodes).index(node.name)}"]],
        "identity": f"{node.name}:{node.boot}:1",
        "home_identity": f"{node.name}-home",
    }
    return json.dumps({"facts": facts, "clock": [node.time(), node.time()]}).encode()


PROGRAMS: dict[str, Program] = {
    "probe": probe,
    "run.run": runs.run,
    "run.jobs": jobs.answer,
    "push.receiver": hands.push_receiver,
}
