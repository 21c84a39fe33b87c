"""What the functions of the fleet take: nodes, code and commands as people write them, a pool lent or opened.

Everywhere a str, a Node or several of them are nodes, a path is a workspace; ``pool=None`` opens a Pool for the call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.base import Env
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.command import Command, as_command
from asyncdeploy.values.workspace import Workspace

DEFAULT_ENV: Env = UvEnv()


Nodes = str | Node | Iterable[str | Node]
Code = Workspace | Path | str
Asked = Command | str | Callable[[Node], Command | str]


@asynccontextmanager
async def lent_pool(pool: Pool | None) -> AsyncIterator[Pool]:
    """Give the pool that was lent, or one for this call."""
    if pool is not None:
        yield pool
    else:
        async with Pool() as own:
            yield own


def as_asked(command: Asked, node: Node) -> Command:
    """Return the command of a node, of what may be one for all or a callable that gives each its own."""
    return as_command(command if isinstance(command, Command | str) else command(node))
