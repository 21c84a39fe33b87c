"""Launches on many nodes: from bare nodes to ranks that run, what they print, where they stand, how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.base import Env
from asyncdeploy.fleet.arguments import Nodes, lent_pool
from asyncdeploy.fleet.deploy import DEFAULT_ENV, deploy_for
from asyncdeploy.fleet.push import Code
from asyncdeploy.launch.follow.diagnosis import Diagnosis
from asyncdeploy.launch.follow.follow import LaunchFollower
from asyncdeploy.launch.follow.hangs import diagnose, watch_silence
from asyncdeploy.launch.follow.looker import LaunchLooker, LaunchReader
from asyncdeploy.launch.gang.attempts import watch_attempts
from asyncdeploy.launch.gang.recall import recall_launch
from asyncdeploy.launch.gang.restart import Recovery, Restart
from asyncdeploy.launch.gang.sight import AWAY_S
from asyncdeploy.launch.gang.start import launch_failed, start_launch
from asyncdeploy.launch.gang.undo import UNDO_S, undo_launch
from asyncdeploy.launch.gang.watch import end_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.launch.preflight.check import Ready, check_nodes, check_python
from asyncdeploy.launch.preflight.verdict import Preflight
from asyncdeploy.launch.preflight.visible_gpus import gpu_choices
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import Node, node_ranks, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.push.relay.crew import Relay
from asyncdeploy.remote.ahead import opening_ahead
from asyncdeploy.run.job import JobStatus
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import DeployError, LaunchFailed
from asyncdeploy.values.events import Noted

Look = Literal["watch", "follow", "now"]
"""What one does who follows a launch: watch over it; only follow what it prints; read what it printed until now."""
CALLS_AHEAD = 2
"""Of the preflight's calls with a node at one time, those that find no worker behind a push; rank 0 has one more."""
LOOKS: dict[Look, type[LaunchFollower]] = {"watch": LaunchFollower, "follow": LaunchLooker, "now": LaunchReader}


@checked
async def preflight(
    nodes: Nodes | Iterable[Deployment],
    *,
    nproc_per_node: int | None = None,
    uneven: bool = False,
    master_port: int | None = None,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Preflight:
    """Look whether nodes can run one job together, as every launch does before its ranks start; nothing is left there.

    Args:
        nodes: in node rank order; as Deployments their environments (torch, CUDA) are compared too.
        nproc_per_node: processes a node, None for its slots, else the GPUs that its ranks see, else 1.
        uneven: whether nodes may have different numbers of processes.
        master_port: the port where the ranks would meet, None for a free one.
        at_most_s: a node's own time for each look at it; one that takes longer is a problem, with what was last seen.
        pool: the connections.

    Returns:
        The verdict: ``ok``, ``problems`` that name both nodes of a pair, and nodes that do not answer or have no
        python3, ``warnings``; ``describe()`` is for people.

    On cancellation no port stays taken.
    """
    given: list[Any] = [nodes] if isinstance(nodes, str | Node | Deployment) else list(nodes)
    deployed = [each for each in given if isinstance(each, Deployment)]
    if deployed and len(deployed) != len(given):
        mixed = f"got {len(deployed)} Deployments among {len(given)}"
        raise ValueError(f"preflight: nodes or Deployments were expected, {mixed}")
    ready = [Ready(each.node, each.facts, each.built, each.site.workdir, gpu_choices(each.env)) for each in deployed]
    asked: Sequence[Ready | Node] = ready or parse_nodes(given)
    async with lent_pool(pool) as lent:
        return await check_nodes(
            lent, asked, nproc=nproc_per_node, uneven=uneven, port=master_port, at_most_s=at_most_s
        )


@checked
async def fan_out(
    nodes: Nodes,
    workspace: Code,
    launcher: Launcher,
    env: Env = DEFAULT_ENV,
    *,
    relay: Relay = "auto",
    grace_s: float = 5.0,
    at_most_s: float | None = None,
    restart: Restart | None = None,
    spares: Nodes | None = None,
    pool: Pool | None = None,
) -> Launch:
    """Deploy to all nodes, then start one rank a node, detached: all of them or none.

    Args:
        nodes: in node rank order.
        workspace: what to push.
        launcher: what to run: a Torchrun.
        env: how a node becomes able to run it.
        relay: as for ``push_all``.
        grace_s: seconds from TERM to KILL whenever the launch is stopped.
        at_most_s: the time that a node has to be made ready; one that takes longer is not ready.
        restart: start it again when it fails, while somebody waits for it or follows it; None leaves it ended.
        spares: nodes that are made ready too and wait; one takes the place of a node that cannot be made ready, or,
            with a ``restart``, of the one that failed. A spare that cannot be made ready itself is only said.
        pool: the connections.

    Raises:
        ValueError: the launcher's program is not among what is sent, or the project lacks what ``env`` asks of it.
        LaunchFailed: a node could not be deployed to or started; nothing of the launch runs anywhere.
        PreflightFailed: the nodes cannot run it together.

    On cancellation nothing of the launch stays running.
    """
    fleet = parse_nodes(nodes)
    everybody = parse_nodes([*fleet, *(parse_nodes(spares) if spares else ())])  # each of them once
    launch: Launch | None = None
    try:
        async with lent_pool(pool) as lent, opening_ahead() as open_ahead:

            def seen(node: Node, facts: NodeFacts) -> None:
                check_python(node, facts)
                open_ahead(lent.at(node), CALLS_AHEAD + (node == fleet[0]))

            program = launcher.program if isinstance(launcher, Torchrun) else ""
            deployed = await deploy_for(
                lent, everybody, workspace, env, program, relay=relay, at_most_s=at_most_s, seen=seen
            )
            ready, left = _filled(deployed, len(fleet), lent)
            launch = await start_launch(lent, ready, launcher, grace_s=grace_s)
    except asyncio.CancelledError:
        if launch is not None:  # cancelled behind it, as the connections were closed: nobody has its handle
            await finish(_undo(launch, pool), UNDO_S)
        raise
    return launch if restart is None else Recovery(restart, ready, left, launcher, grace_s).begin(launch)


async def _undo(launch: Launch, pool: Pool | None) -> None:
    async with lent_pool(pool) as lent:
        await undo_launch(lent, launch)


def _filled(deployed: Report[Deployment], count: int, pool: Pool) -> tuple[list[Deployment], list[Deployment]]:
    """Return what stands on the nodes, a spare in the place of each that is not ready, and the spares that are left."""
    outcomes = list(deployed)
    left = [outcome.value for outcome in outcomes[count:] if outcome.value is not None]
    ready: list[Deployment] = []
    for outcome in outcomes[:count]:
        if outcome.value is None and not left:
            raise _not_deployed(Report(tuple(outcomes[:count])))
        ready.append(outcome.value if outcome.value is not None else left.pop(0))
    for outcome in outcomes:
        if outcome.value is None:
            text = f"is not ready and takes no part: {outcome.error.message if outcome.error else outcome.state}"
            pool.at(outcome.node).emit(Noted(node=outcome.node.name, text=text))
    return ready, left


@checked
async def wait_launch(
    launch: Launch, *, silent_after_s: float | None = None, away_s: float = AWAY_S, pool: Pool | None = None
) -> Report[JobStatus]:
    """Wait until all ranks have ended; when one fails the others are stopped, and the report names it as the cause.

    A launch with a Restart is started again; the report is that of its last attempt, which ``launch.current`` names.
    Who waits elsewhere, by a handle that was loaded or found, waits with whoever starts it again, and for what follows.

    Args:
        launch: the launch.
        silent_after_s: when no rank has printed anything for so long, say by an event where all of them stand; None
            leaves them alone.
        away_s: a node that does not answer us is asked on, and nothing is stopped for it: the ranks watch over each
            other. When none of those that still run has answered for so long they are unknown, and left as they are.
        pool: the connections.

    On cancellation the launch is left as it is.
    """
    async with lent_pool(pool) as lent:
        if silent_after_s is None:
            return await watch_attempts(lent, launch, away_s)
        # A task group would wrap what somebody's own coroutine (``between``) raises.
        listening = asyncio.create_task(watch_silence(lent, launch, silent_after_s))
        try:
            return await watch_attempts(lent, launch, away_s)
        finally:
            listening.cancel()
            await finish(asyncio.wait([listening]), BACK_S)


@checked
async def diagnose_launch(launch: Launch, *, pool: Pool | None = None) -> Diagnosis:
    """Ask all ranks of a launch where they stand: who waits in a collective, and who has not reached it.

    Every Python writes its stacks by itself (faulthandler, on SIGURG), also one that hangs in a library; where one does
    not, py-spy does if the node has it, and else the kernel says what it waits in. Nothing is stopped.

    Args:
        launch: the launch.
        pool: the connections.

    Returns:
        The Diagnosis; ``describe()`` is for people. Nodes that do not answer are named in it.
    """
    async with lent_pool(pool) as lent:
        return await diagnose(lent, launch.current)


@checked
async def stop_launch(launch: Launch, *, grace_s: float | None = None, pool: Pool | None = None) -> Report[JobStatus]:
    """Stop all ranks; within the grace and 5 s more nothing lives.

    Args:
        launch: the launch.
        grace_s: seconds from TERM to KILL, None for the launch's own.
        pool: the connections.
    """
    if launch.attempts is not None:
        launch.attempts.stopped = True
    async with lent_pool(pool) as lent:
        return await end_launch(lent, launch.current, grace_s)


@checked
@asynccontextmanager
async def follow_launch(
    launch: Launch,
    *,
    offsets: Sequence[int] = (),
    fold_s: float | None = None,
    silent_after_s: float | None = None,
    away_s: float = AWAY_S,
    look: Look = "watch",
    pool: Pool | None = None,
) -> AsyncIterator[LaunchFollower]:
    """Give the lines of all ranks as they come and watch over the launch; they end when it has ended.

    Args:
        launch: the launch.
        offsets: of an earlier follower, to go on behind the last line that it gave; none is from the beginning.
        silent_after_s / away_s: as for ``wait_launch``.
        fold_s: lines that several nodes print alike within so many seconds are given as one; None folds nothing.
        look: "follow" only looks: the lines end when all ranks have, nothing is stopped or started again because of it,
            and there is no report. "now" gives what was printed until now.
        pool: the connections.

    ``report`` and ``failure`` of what is given say how it ended. Leaving the block early leaves the launch as it is.
    """
    if look not in LOOKS:
        raise ValueError(f"follow_launch look: 'watch', 'follow' or 'now' was expected, got {look!r}")
    async with lent_pool(pool) as lent:
        async with LOOKS[look](
            lent, launch, offsets=offsets, fold_s=fold_s, silent_after_s=silent_after_s, away_s=away_s
        ) as follower:
            yield follower


@checked
async def find_launch(
    nodes: Nodes, launch_id: str, *, at_most_s: float | None = None, pool: Pool | None = None
) -> Launch:
    """Return a launch by its id and nodes, on any machine; it is enough that one of them answers.

    Of a launch that was started again any attempt's id will do: the last one is returned. Spares that took part are
    among its nodes.

    Args:
        nodes: all of its nodes.
        launch_id: its id, or an earlier attempt's.
        at_most_s: a node's own time; one that takes longer did not answer.
        pool: the connections.

    Raises:
        LaunchFailed: no node remembers it, they disagree, or it has a node that is not named here.
    """
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:
        return await recall_launch(lent, fleet, launch_id, at_most_s=at_most_s)


def _not_deployed(report: Report[Deployment]) -> LaunchFailed:
    outcome = report.failures[0]
    cause = outcome.error or DeployError(outcome.node.name, f"ended as {outcome.state}")
    rank = node_ranks(seen.node for seen in report)[outcome.node]
    rest = tuple(f"{seen.node.name}: {seen.error.message}" for seen in report.failures[1:] if seen.error is not None)
    error = attrs.evolve(launch_failed(cause, "is not ready, nothing was started", node_rank=rank), consequences=rest)
    error.__cause__ = cause
    return error
