"""The plan of a launch: who runs what, where they meet, before anything starts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.launch.launch import Launch, new_launch_id, rank_job
from asyncdeploy.launch.placement import EngineLauncher, Launcher, LauncherWithVariables, NodePlace, Placement
from asyncdeploy.launch.preflight.check import Ready, check_together, keeps_nothing
from asyncdeploy.launch.preflight.verdict import NodeSeen, Preflight
from asyncdeploy.launch.preflight.visible_gpus import VISIBLE, gpu_choices
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.events import Noted

GPUS_VARIABLE = "ASYNCDEPLOY_GPUS"
"""The supervisor takes it; what it starts does not see it."""


async def plan_launch(
    pool: Pool, deployments: Sequence[Deployment], launcher: Launcher, grace_s: float, before: Sequence[str] = ()
) -> tuple[Launch, tuple[Command, ...], int]:
    """Return the launch as it will be, the command of each node, and a port for their link; nothing is started."""
    if not deployments:
        raise ValueError("launch: at least one deployment was expected, got none")
    first = deployments[0].node
    found = await _check(pool, deployments, launcher)
    for warning in found.warnings:
        pool.at(first).emit(Noted(node=first.name, text=warning))
    found.check()
    launch_id, now = new_launch_id(launcher.name), time.time()
    placement = _placement(launch_id, deployments, found, grace_s, len(before))
    commands = launcher.commands(placement)
    jobs = [
        rank_job(launch_id, each.node, rank, each.site.path, commands[rank].line, now)
        for rank, each in enumerate(deployments)
    ]
    launch = Launch(
        launch_id,
        tuple(jobs),
        placement,
        grace_s,
        tuple(each.site.workdir for each in deployments),
        tuple(each.facts.clock_offset_s for each in deployments),
        now,
        tuple(before),
        launcher.driver_env(placement) if isinstance(launcher, EngineLauncher) else (),
    )
    entered = tuple(
        _with_gpus(each.enter(command), each.facts, seen)
        for each, command, seen in zip(deployments, commands, found.nodes, strict=True)
    )
    return launch, entered, found.link_port


async def preview_launch(
    pool: Pool, deployments: Sequence[Deployment], launcher: Launcher, grace_s: float = 5.0
) -> tuple[Preflight, tuple[Command, ...]]:
    """Return whether the nodes can run a launch together, and if so its command of each node, not yet entered.

    Args:
        pool: the connections.
        deployments: the nodes as they would stand, in node rank order.
        launcher: what each node would run.
        grace_s: as for ``start_launch``.

    Raises:
        ToolMissing: a node has no python3.
        DeployError: a node does not answer.

    On cancellation no port stays taken.
    """
    found = await _check(pool, deployments, launcher)
    if not found.ok:
        return found, ()
    placement = _placement(new_launch_id(launcher.name), deployments, found, grace_s, 0)
    return found, launcher.commands(placement)


async def _check(pool: Pool, deployments: Sequence[Deployment], launcher: Launcher) -> Preflight:
    telling = launcher if isinstance(launcher, LauncherWithVariables) else None
    said, keeps = (telling.variable(VISIBLE), telling.keeps) if telling else (None, keeps_nothing)
    ready = [
        Ready(each.node, each.facts, each.built, each.site.workdir, gpu_choices(each.env, said), keeps)
        for each in deployments
    ]
    nproc, uneven = launcher.nproc_per_node, launcher.uneven
    return await check_together(pool, ready, nproc=nproc, uneven=uneven, port=launcher.master_port)


def _placement(
    launch_id: str, deployments: Sequence[Deployment], found: Preflight, grace_s: float, attempt: int
) -> Placement:
    places = tuple(
        NodePlace(each.node, rank, seen.nproc, seen.address, seen.interface)
        for rank, (each, seen) in enumerate(zip(deployments, found.nodes, strict=True))
    )
    return Placement(launch_id, found.master_addr, found.master_port, places, attempt, grace_s)


def _with_gpus(command: Command, facts: NodeFacts, seen: NodeSeen) -> Command:
    """Return the command with what its supervisor needs to tell at its end whether it has left memory in use."""
    if not facts.gpus:
        return command
    used = [[gpu.uuid, in_use] for gpu, in_use in zip(facts.gpus, seen.gpu_used, strict=True)]
    before = json.dumps({"nvidia_smi": facts.tool("nvidia-smi"), "used": used})
    return attrs.evolve(command, env=(*command.env, (GPUS_VARIABLE, before)))
