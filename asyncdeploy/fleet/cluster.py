"""Clusters of an engine (Ray, Dask) for as long as a block runs, and drivers that compute with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.base import Env
from asyncdeploy.fleet.arguments import Nodes, lent_pool
from asyncdeploy.fleet.deploy import DEFAULT_ENV
from asyncdeploy.fleet.launch import fan_out, stop_launch
from asyncdeploy.fleet.push import Code
from asyncdeploy.launch.gang.attached import run_driver
from asyncdeploy.launch.gang.drivers import start_driver
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.dask import DaskCluster
from asyncdeploy.launch.launchers.ray import RayCluster
from asyncdeploy.push.relay.crew import Relay
from asyncdeploy.run.job import Job
from asyncdeploy.tasks.finish import finish
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.events import Noted

STOP_S = 10.0
"""Beyond its grace, for the drivers' end, the nodes' and the way back."""


@attrs.frozen(eq=False)
class RunningCluster:
    """A cluster that stands on all its nodes.

    Attributes:
        launch: its ranks, one a node.
    """

    launch: Launch
    _pool: Pool = attrs.field(repr=False)

    async def run(self, command: Command | str, *, check: bool = False) -> Completed:
        """Run a driver on node rank 0, as ``run_on_cluster``."""
        return await run_on_cluster(self.launch, command, check=check, pool=self._pool)

    async def start(self, command: Command | str, *, name: str) -> Job:
        """Start a detached driver on node rank 0, as ``start_on_cluster``; it ends with the cluster."""
        return await start_on_cluster(self.launch, command, name=name, pool=self._pool)


@checked
async def run_on_cluster(
    launch: Launch, command: Command | str, *, check: bool = False, pool: Pool | None = None
) -> Completed:
    """Run a driver beside a launch's engine, on node rank 0, in its environment; return what it left.

    Args:
        launch: of a RayCluster or DaskCluster, started here or found by its id.
        command: a Command, or a shell line; its cwd is the project's folder unless it has one.
        check: raise CommandFailed unless it ends with status 0.
        pool: the connections.

    Raises:
        LaunchFailed: the engine is gone; the root cause, where its nodes know one.
        DeployError: as ``run_command``.
        ValueError: the launch has no engine.

    On cancellation the driver is ended on the node, the engine stays.
    """
    async with lent_pool(pool) as lent:
        return await run_driver(lent, launch.current, command, check=check)


@checked
async def start_on_cluster(launch: Launch, command: Command | str, *, name: str, pool: Pool | None = None) -> Job:
    """Start a detached driver beside a launch's engine, on node rank 0; it outlives us, and ends with the engine.

    Args:
        launch: of a RayCluster or DaskCluster, started here or found by its id.
        command: a Command, or a shell line; its cwd is the project's folder unless it has one.
        name: of the job; one of a name runs on a site at a time.
        pool: the connections.

    Raises:
        DeployError: as ``start_job``.
        ValueError: the launch has no engine.

    On cancellation nothing of the job stays running.
    """
    async with lent_pool(pool) as lent:
        return await start_driver(lent, launch.current, command, name=name)


@asynccontextmanager
async def ray_cluster(
    nodes: Nodes,
    workspace: Code,
    env: Env = DEFAULT_ENV,
    *,
    cluster: RayCluster | None = None,
    relay: Relay = "auto",
    grace_s: float = 5.0,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> AsyncIterator[RunningCluster]:
    """Give a Ray cluster that spans exactly these nodes; behind the block nothing of it is left.

    Args:
        nodes: the first one is the head, where drivers run.
        workspace: what to push.
        env: how a node becomes able to run it; it must have ray.
        cluster: how it is made; None is RayCluster().
        relay / grace_s / at_most_s: as for ``fan_out``.
        pool: the connections.

    Raises:
        ToolMissing: an environment has no ray.
        PreflightFailed: the nodes cannot run it together, or their versions differ.
        LaunchFailed: a node was not ready, or did not join; nothing of it runs anywhere.

    On cancellation drivers are ended, then the cluster.
    """
    made = cluster or RayCluster()
    async with lent_pool(pool) as lent:
        launch = await fan_out(
            nodes, workspace, made, env, relay=relay, grace_s=grace_s, at_most_s=at_most_s, pool=lent
        )
        async with _running(lent, launch) as running:
            yield running


@asynccontextmanager
async def dask_cluster(
    nodes: Nodes,
    workspace: Code,
    env: Env = DEFAULT_ENV,
    *,
    cluster: DaskCluster | None = None,
    relay: Relay = "auto",
    grace_s: float = 5.0,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> AsyncIterator[RunningCluster]:
    """Give a Dask cluster that spans exactly these nodes; behind the block nothing of it is left.

    Args:
        nodes: the first one has the scheduler, and drivers run there.
        workspace: what to push.
        env: how a node becomes able to run it; it must have distributed.
        cluster: how it is made; None is DaskCluster().
        relay / grace_s / at_most_s: as for ``fan_out``.
        pool: the connections.

    Raises:
        ToolMissing: an environment has no distributed.
        PreflightFailed: the nodes cannot run it together, or their versions differ.
        LaunchFailed: a node was not ready, or did not join; nothing of it runs anywhere.

    On cancellation drivers are ended, then the cluster.
    """
    made = cluster or DaskCluster()
    async with lent_pool(pool) as lent:
        launch = await fan_out(
            nodes, workspace, made, env, relay=relay, grace_s=grace_s, at_most_s=at_most_s, pool=lent
        )
        async with _running(lent, launch) as running:
            yield running


@asynccontextmanager
async def _running(pool: Pool, launch: Launch) -> AsyncIterator[RunningCluster]:
    try:
        yield RunningCluster(launch, pool)
    finally:
        await finish(_stop(pool, launch), launch.grace_s + STOP_S)


async def _stop(pool: Pool, launch: Launch) -> None:
    """Stop all of it; what is not confirmed is said, and never hides what the block raised."""
    for outcome in await stop_launch(launch, pool=pool):
        if outcome.state == "unknown":
            why = f"it is not confirmed that nothing of {launch.id} runs here: {outcome.error}"
            pool.at(outcome.node).emit(Noted(node=outcome.node.name, text=why))
