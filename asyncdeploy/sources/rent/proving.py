"""A machine is ready when our sshd answers on it, with the key that we know: prove."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.ready import wait_ready
from asyncdeploy.nodes.parse import Node
from asyncdeploy.sources.rent.keys import fingerprint


async def prove(nodes: Sequence[Node], keys: Sequence[str | None], end: float) -> tuple[tuple[str, str], ...]:
    """Wait until each machine lets us in and runs a command.

    Args:
        nodes: the machines.
        keys: the public line of each host key; None takes the key that comes, this once.
        end: until when, by the loop's clock.

    Returns:
        Each node's name with the public line of a key that it answers with.

    Raises:
        ExceptionGroup: one did not, or answered with another key; the others are no longer waited for.
    """
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_prove(node, key, end)) for node, key in zip(nodes, keys, strict=True)]
    return tuple((node.name, key) for node, task in zip(nodes, asked, strict=True) for key in task.result())


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the errors of a group and of those in it."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def _prove(node: Node, key: str | None, end: float) -> list[str]:
    left_s = max(1.0, end - asyncio.get_running_loop().time())
    with tempfile.TemporaryDirectory(prefix="asyncdeploy-") as here:
        known = Path(here) / "known_hosts"
        rule = HostKeys.accept_new(known) if key is None else HostKeys.pinned({node.name: fingerprint(key)})
        async with Pool(host_keys=rule) as pool:
            (await wait_ready([node], timeout_s=left_s, pool=pool)).unwrap()
        if key is not None:
            return [key]
        lines = [line.split() for line in known.read_text().splitlines() if not line.startswith("#")]
        return list(dict.fromkeys(" ".join(words[1:3]) for words in lines if len(words) >= 3))  # under several names
