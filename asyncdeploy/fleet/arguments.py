"""What the functions of the fleet take: nodes and commands as people write them, a pool lent or opened.

Everywhere a str, a Node or several of them are nodes; ``pool=None`` opens a Pool for the call.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from asyncdeploy.connect.pool import Pool
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.command import Command, as_command

Nodes = str | Node | Iterable[str | Node]
Asked = Command | str | Callable[[Node], Command | str]


@asynccontextmanager
async def lent_pool(pool: Pool | None) -> AsyncIterator[Pool]:
    """Give the pool that was lent, or one for this call."""
    if pool is not None:
        pool.check_loop()  # once, and not as the failure of each node
        yield pool
    else:
        async with Pool() as own:
            yield own


def commands_of(nodes: Sequence[Node], command: Asked) -> dict[Node, Command]:
    """Return the command of each node: one for all, or what a callable gives it.

    Raises:
        ValueError: two nodes would write one local file.
    """
    if isinstance(command, Command | str):
        found = dict.fromkeys(nodes, as_command(command))
    else:
        found = {node: as_command(command(node)) for node in nodes}
    writers: dict[str, Node] = {}
    for node, each in found.items():
        for path in (each.stdout_to, each.stderr_to):
            if path is not None and (other := writers.setdefault(os.path.realpath(path), node)) != node:
                what = f"{path} would be written by {other.name} and by {node.name}"
                hint = "give a function of the node: lambda node: Command(..., stdout_to=f'{node.name}.log')"
                raise ValueError(f"command stdout_to: a file for each node was expected; {what}; {hint}")
    return found
