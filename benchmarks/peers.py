"""Bare asyncssh as a peer: ``python -m benchmarks.peers warm ...``; what our own stack costs at the least."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import asyncssh


async def warm(nodes_path: str, line: str, count: str, at_once: str, marks: str) -> None:
    """As benchmarks.driver's ``warm``, with nothing but asyncssh."""
    nodes = json.loads(Path(nodes_path).read_text())
    known_hosts = str(Path(nodes_path).parent.parent / "known_hosts")
    options = asyncssh.SSHClientConnectionOptions(
        username="root", client_keys=[nodes[0]["key_path"]], config=None, agent_path=None, known_hosts=known_hosts
    )
    connections = [await asyncssh.connect(node["host"], node["port"], options=options) for node in nodes]
    share = int(count) // len(connections)

    async def work(connection: asyncssh.SSHClientConnection, number: int) -> None:
        for _ in range(number):
            await connection.run(line, check=True, stdin=asyncssh.DEVNULL)

    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            for number in range(int(at_once)):
                group.create_task(work(connection, len(range(number, share, int(at_once)))))
    Path(marks).write_text(f"begin {begin}\nend {time.monotonic()}\n")
    for connection in connections:
        connection.close()
    await asyncio.gather(*(connection.wait_closed() for connection in connections))


if __name__ == "__main__":
    asyncio.run(warm(*sys.argv[2:]))
