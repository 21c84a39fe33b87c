"""Nodes at the end of long lines, which count how often somebody had to wait for an answer before he could go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from tests.support.beds.sshd_node import SshdNode

ONE_WAY_S = 0.15
"""So long that what is sent together counts as one flight, also on a busy machine."""
CHUNK = 1 << 18


@attrs.define
class Lines:
    """The lines to some nodes.

    Attributes:
        nodes: the nodes, as they are reached by their lines.
        known_hosts: their keys at these addresses.
        heard: of what came to us until now, the longest chain of answers each of which was sent for the one before:
            round trips, however many went side by side.
    """

    nodes: tuple[Node, ...]
    known_hosts: Path
    heard: int = 0

    def pool(self) -> Pool:
        return Pool(host_keys=HostKeys.strict(self.known_hosts))

    async def carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to a node's port, late."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        sent = 0  # the longest chain that has reached the node

        def leaves_us() -> int:
            return self.heard + 1

        def reaches_it(chain: int) -> None:
            nonlocal sent
            sent = max(sent, chain)

        def reaches_us(chain: int) -> None:
            self.heard = max(self.heard, chain)

        there = _carry(reader, far_writer, leaves_us, reaches_it)
        back = _carry(far_reader, writer, lambda: sent, reaches_us)
        await asyncio.gather(there, back)
        for end in (writer, far_writer):
            end.close()


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    leaves: Callable[[], int],
    reaches: Callable[[int], None],
) -> None:
    loop, under_way = asyncio.get_running_loop(), asyncio.Queue[tuple[float, int, bytes]]()

    async def deliver() -> None:
        while True:
            due, chain, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            reaches(chain)
            writer.write(data)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    try:
        while data := await reader.read(CHUNK):
            under_way.put_nowait((loop.time() + ONE_WAY_S, leaves(), data))
    except ConnectionError:
        pass
    under_way.put_nowait((loop.time() + ONE_WAY_S, 0, b""))
    await asyncio.gather(delivering, return_exceptions=True)


@asynccontextmanager
async def far_away(machines: Sequence[SshdNode], folder: Path) -> AsyncIterator[Lines]:
    """Give lines to machines that end with the block."""
    lines = Lines((), folder / "known_hosts")
    servers: list[asyncio.Server] = []
    tasks = set[asyncio.Task[None]]()
    known = ""
    for machine in machines:
        port = machine.node.port or 22

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            tasks.add(asyncio.create_task(lines.carry(port, reader, writer)))

        servers.append(await asyncio.start_server(accept, "127.0.0.1", 0))
        ours = servers[-1].sockets[0].getsockname()[1]
        lines.nodes += (attrs.evolve(machine.node, port=ours),)
        known += machine.known_hosts_lines.replace(f":{port},", f":{ours},")
    lines.known_hosts.write_text(known)
    try:
        yield lines
    finally:
        for server in servers:
            server.close()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
