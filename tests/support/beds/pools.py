"""Pools over the beds' nodes, and lines run through them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Channel, Exit, Remote
from tests.support.beds.sshd_node import SshdNode


def pool_for(sshd: SshdNode, **options: Any) -> Pool:
    """A pool that trusts all nodes of this one's bed; options: as Pool takes them."""
    return Pool(host_keys=HostKeys.strict(sshd.known_hosts), **options)


@asynccontextmanager
async def at(sshd: SshdNode, **options: Any) -> AsyncIterator[Remote]:
    """A remote of a pool of its own."""
    async with pool_for(sshd, **options) as pool:
        yield pool.at(sshd.node)


async def answer(channel: Channel) -> tuple[bytes, Exit]:
    """All that a line prints, and its end."""
    try:
        out = b""
        while data := await channel.read():
            out += data
        return out, await channel.wait()
    finally:
        await channel.close()


async def run_line(pool: Pool, node: Node, line: str) -> tuple[bytes, Exit]:
    """Run a line on a node."""
    return await answer(await pool.at(node).open(line))
