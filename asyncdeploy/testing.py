"""pytest fixtures for people who build on asyncdeploy: ``pytest_plugins = ["asyncdeploy.testing"]`` in a conftest.py.

They need pytest and pytest-asyncio. What you open yourself in an async fixture must not be a task group or a cancel
scope of anyio: pytest-asyncio may end a fixture in another task than it began, which anyio refuses. A cluster and a
pool are neither, and may be held by a fixture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest_asyncio

from asyncdeploy.local.cluster import DEFAULT_PATH, LocalCluster

StartCluster: TypeAlias = Callable[..., Awaitable[LocalCluster]]


@pytest_asyncio.fixture
async def local_cluster() -> AsyncIterator[StartCluster]:
    """Start clusters for one test: ``cluster = await local_cluster(4)``; arguments are LocalCluster's.

    At the end of the test everything that runs on them is ended and awaited.
    """
    async with AsyncExitStack() as stack:

        async def start(
            count: int = 2,
            *,
            shell: str = "/bin/sh",
            path: str = DEFAULT_PATH,
            max_sessions: int = 10,
            forwarding: bool = False,
        ) -> LocalCluster:
            cluster = LocalCluster(count, shell=shell, path=path, max_sessions=max_sessions, forwarding=forwarding)
            return await stack.enter_async_context(cluster)

        yield start
