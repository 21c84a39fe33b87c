"""A contender of old_jobs.py, by the code of whichever checkout PYTHONPATH names: NODES MARKS COUNT."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import asyncdeploy as ad


async def drive(nodes_path: str, marks: str, count: str) -> None:
    """Start jobs that end at once, over an open connection."""
    (node,) = (ad.Node.from_dict(item) for item in json.loads(Path(nodes_path).read_text()))
    async with ad.Pool(host_keys=ad.HostKeys.strict(Path(nodes_path).parent.parent / "known_hosts")) as pool:
        await ad.start_job(pool.at(node), "true", name="first")
        begin = time.monotonic()
        for number in range(int(count)):
            await ad.start_job(pool.at(node), "true", name=f"job-{number}")
        Path(marks).write_text(f"begin {begin}\nend {time.monotonic()}\n")


asyncio.run(drive(*sys.argv[1:]))
