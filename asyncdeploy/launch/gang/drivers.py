"""Drivers: programs of people that compute with a launch's engine, on node rank 0, in its environment."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.launch import Launch
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import list_jobs, start_job, stop_job
from asyncdeploy.values.command import Command, as_command, carried_line
from asyncdeploy.values.errors import DeployError

LINE = "ASYNCDEPLOY_DRIVER_LINE"
"""The variable by which node_side/engines/driver.py is told what to run; the driver does not see it."""
ENGINE_GONE = 75
"""What it exits with where the engine is gone."""
WORDS = b"asyncdeploy: the engine of "
"""What it says then: a driver's own status may be the same."""
KILL_S = 2.0
"""For KILL and the way back, behind the grace."""
MOST_DRIVERS = 100
"""Of the newest: those that have ended are among them, and a stop of each is a question."""


def driver_command(launch: Launch, command: Command | str) -> Command:
    """Return a command as it runs beside the launch's engine; a variable that it has itself wins.

    Raises:
        ValueError: the ranks of the launch are no engine.
    """
    command = as_command(command)
    if not launch.driver_env:
        raise ValueError(f"launch {launch.id}: one of a RayCluster or DaskCluster was expected, it has no engine")
    env = {**dict(launch.driver_env), **dict(command.env)}
    names = sorted({*env, *(name for name, _ in command.secrets)})
    line = " ".join([f'exec python3 -I "$HOME"/{_program(launch)} {launch.id}', *names])
    env |= carried_line("driver", LINE, command.line)
    # What it left inside a container of ours is no child of anybody here.
    inside = f'"$HOME"/.asyncdeploy/launches/{launch.id}/rank-0/engine.container'
    ends = f'[ ! -s {inside} ] || python3 -I "$HOME"/{_program(launch)} {launch.id} --end'
    on_end = "\n".join(filter(None, [command.on_end, ends]))
    return attrs.evolve(command, line=line, env=env, cwd=command.cwd or launch.workdirs[0], on_end=on_end)


def drivers_of(launch: Launch, jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return those of a node's jobs that are drivers of the launch."""
    return tuple(job for job in jobs if f"/{_program(launch)} {launch.id}" in job.command)


async def start_driver(pool: Pool, launch: Launch, command: Command | str, *, name: str) -> Job:
    """Start a driver as a detached job on node rank 0; it ends with the engine.

    Raises:
        DeployError: as ``start_job``.
        ValueError: the launch has no engine.

    On cancellation nothing of it stays running.
    """
    remote = pool.at(launch.nodes[0])
    return await start_job(remote, driver_command(launch, command), name=name, site=launch.jobs[0].site)


async def end_drivers(pool: Pool, launch: Launch, grace_s: float) -> None:
    """End the launch's drivers, so that they have their engine as long as they save; bounded.

    What cannot be ended here is ended with the engine, by driver.py.
    """
    remote = pool.at(launch.nodes[0])

    async def end(job: Job) -> None:
        try:
            await stop_job(remote, job, grace_s=grace_s)
        except DeployError:
            return

    with anyio.move_on_after(grace_s + KILL_S):
        try:
            jobs = drivers_of(launch, await list_jobs(remote))
        except DeployError:
            return
        async with anyio.create_task_group() as group:
            for job in jobs[-MOST_DRIVERS:]:
                group.start_soon(end, job)


def _program(launch: Launch) -> str:
    return f".asyncdeploy/launches/{launch.id}/tools/driver.py"
