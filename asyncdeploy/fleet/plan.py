"""What a push, a deploy, a run or a launch would do, before it is done: looked at, nothing changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, located
from asyncdeploy.envs.base import Env, EnvWithSources
from asyncdeploy.envs.bootstrap.bootstrap import EnvPreview, preview_env
from asyncdeploy.fleet.arguments import Asked, Nodes, commands_of, lent_pool
from asyncdeploy.fleet.deploy import DEFAULT_ENV
from asyncdeploy.fleet.planned import EnvState, NodePlan, Plan
from asyncdeploy.fleet.push import Code, needed_path
from asyncdeploy.launch.gang.plan import preview_launch
from asyncdeploy.launch.launchers.rank_env import told_line
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Outcome
from asyncdeploy.push.bundle.bundle import Bundle, begin_packing
from asyncdeploy.push.bundle.left_out import left_out
from asyncdeploy.push.preview import Preview, preview_push
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.workspace import Site, as_workspace


@checked
async def plan_all(
    nodes: Nodes,
    workspace: Code,
    env: Env | None = DEFAULT_ENV,
    *,
    command: Asked | None = None,
    launcher: Launcher | None = None,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Plan:
    """Look what a push, a deploy, a run or a launch would do; nothing is changed on a node, nor in the workspace.

    Args:
        nodes: the nodes, in node rank order.
        workspace: what would be pushed.
        env: how a node would become able to run it; None for a push alone.
        command: what would run on each: a Command, a shell line, or a callable that gives one for each node.
        launcher: what would be launched on all of them together, instead of a command.
        at_most_s: a node's own time to be looked at; one that takes longer is a problem.
        pool: the connections.

    Returns:
        The plan: for each node what would travel, the environment's steps and the exact command; what of the workspace
        is not sent and why; warnings, and problems that a node's refusal or the preflight would be. ``describe()`` is
        for people. A launch's id and port are those of this plan: it finds others when it comes.

    Raises:
        ValueError: the launcher's program is not among what is sent; the project lacks what ``env`` asks of it; a
            command and a launcher were given, or one of them without an environment.
        TransferFailed, ToolMissing: the workspace cannot be scanned.

    What an environment needs of this machine (wheels for nodes without internet, uv for another kind of machine) is
    made ready in our own cache, as a deploy would.

    On cancellation no port stays taken, and there is nothing to undo.
    """
    if command is not None and launcher is not None:
        raise ValueError("plan_all: a command or a launcher was expected, got both")
    if env is None and (command is not None or launcher is not None):
        raise ValueError("plan_all env: an environment was expected for what is to run; SystemEnv() is the node's own")
    fleet, place = parse_nodes(nodes), as_workspace(workspace)
    commands = commands_of(fleet, command) if command is not None else {}
    needed = needed_path(place, launcher.program if isinstance(launcher, Torchrun) else "")
    env = await located(env, place) if env is not None else None
    async with lent_pool(pool) as lent, begin_packing(place, needed) as scan:
        bundle = await asyncio.shield(scan)
        ignored = await run_in_thread(left_out, place, bundle.manifest)
        sources = await run_in_thread(env.sources, place.path) if isinstance(env, EnvWithSources) else None
        asked = _Asked(bundle, env, sources)
        seen = await map_nodes(fleet, lambda node: _look(lent, node, asked), at_once=CALLS_AT_ONCE, at_most_s=at_most_s)
        plan = Plan(
            tuple(_node_plan(outcome, commands) for outcome in seen),
            place,
            env.name if env is not None else "",
            *_size(bundle),
            ignored,
            bundle.take_notes(),
        )
        return plan if launcher is None else await _with_launch(lent, plan, [each.value for each in seen], launcher)


@attrs.frozen
class _Asked:
    """What each node is looked at for; ``sources`` are all files that the environment is made from, None if unknown."""

    bundle: Bundle
    env: Env | None
    sources: tuple[str, ...] | None


@attrs.frozen
class _Look:
    """What was seen of one node."""

    push: Preview
    plan: NodePlan
    deployment: Deployment | None


async def _look(pool: Pool, node: Node, asked: _Asked) -> _Look:
    remote, bundle, env = pool.at(node), asked.bundle, asked.env
    facts = await probe_node(remote)
    push = await preview_push(remote, bundle, asked.sources or ())
    problems = () if push.refusal is None else (_in_words(push.refusal),)
    plan = NodePlan(
        node, push.path, push.placed, push.removed, push.overwritten, push.bytes, push.at_most, problems=problems
    )
    if env is None:
        return _Look(push, plan, None)
    site = Site(push.path, bundle.digest, bundle.workspace.project)
    deployment = Deployment(node, site, env, facts)
    try:
        made = await preview_env(remote, site, env)
    except DeployError as error:
        return _Look(push, attrs.evolve(plan, problems=(*problems, _in_words(error))), deployment)
    if made.stands is not None:
        plan = attrs.evolve(plan, env=_env_state(push, made, asked.sources), steps=made.steps, assets=made.assets)
    return _Look(push, plan, deployment)


def _env_state(push: Preview, made: EnvPreview, sources: tuple[str, ...] | None) -> EnvState:
    if not made.stands:
        return "make"
    if not push.changes:
        return "unchanged"
    # An older Python reads no pyproject.toml there: whatever was pushed counts (node_side/envs/made_from.py).
    version = made.built.python.split(".") if made.built is not None else []
    reads_toml = all(map(str.isdecimal, version[:2])) and tuple(map(int, version[:2])) >= (3, 11)
    is_known = sources is not None and reads_toml and not push.begun
    return "unchanged" if is_known and not push.touches else "stands"


def _node_plan(outcome: Outcome[_Look], commands: dict[Node, Command]) -> NodePlan:
    look, node = outcome.value, outcome.node
    if look is None:
        error = outcome.error or DeployError(node.name, f"ended as {outcome.state}")
        return NodePlan(node, problems=(_in_words(error),))
    if look.deployment is None or node not in commands:
        return look.plan
    return attrs.evolve(look.plan, command=look.deployment.enter(commands[node]), line=commands[node].line)


async def _with_launch(pool: Pool, plan: Plan, looks: Sequence[_Look | None], launcher: Launcher) -> Plan:
    """Return the plan with what each rank would run, or why they could not run together."""
    deployments = [look.deployment for look in looks if look is not None and look.deployment is not None]
    if len(deployments) < len(looks):
        what = "what the ranks would run was not worked out: not every node could be looked at"
        return attrs.evolve(plan, problems=(*plan.problems, what))
    try:
        found, commands = await preview_launch(pool, deployments, launcher)
    except DeployError as error:
        return attrs.evolve(plan, problems=(*plan.problems, f"{error.node}: {_in_words(error)}"))
    nodes = plan.nodes
    if commands:
        nodes = tuple(
            attrs.evolve(each, command=deployment.enter(command), line=told_line(command))
            for each, deployment, command in zip(nodes, deployments, commands, strict=True)
        )
    problems = tuple(f"{problem}; {problem.hint}" if problem.hint else str(problem) for problem in found.problems)
    return attrs.evolve(
        plan, nodes=nodes, problems=(*plan.problems, *problems), warnings=(*plan.warnings, *found.warnings)
    )


def _size(bundle: Bundle) -> tuple[int, int]:
    files = [entry for entry in bundle.manifest.entries if entry.kind in ("file", "link")]
    return len(files), sum(entry.size for entry in files)


def _in_words(error: DeployError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
