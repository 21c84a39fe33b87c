"""A project on many nodes: pushed, made ready, run there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, deploy_project, located, run_in_project
from asyncdeploy.envs.base import Env
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.fleet.arguments import Asked, Nodes, commands_of, lent_pool
from asyncdeploy.fleet.push import Code, with_crew
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parallel import AT_ONCE
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.push.relay.crew import Crew, Relay
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Completed
from asyncdeploy.values.workspace import as_workspace

DEFAULT_ENV: Env = UvEnv()


@checked
async def deploy_all(
    nodes: Nodes,
    workspace: Code,
    env: Env = DEFAULT_ENV,
    *,
    relay: Relay = "auto",
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Deployment]:
    """Push a workspace to all nodes and make its environment there; a node goes on as soon as its own push is done.

    Args:
        nodes: the nodes.
        workspace: what to push.
        env: how a node becomes able to run it.
        relay: as for ``push_all``.
        at_once: how many nodes are worked on at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    Raises:
        ValueError: the project does not have what the environment asks of it (an extra); no node was touched.
    """
    async with lent_pool(pool) as lent:
        return await deploy_for(
            lent, parse_nodes(nodes), workspace, env, "", relay=relay, at_once=at_once, at_most_s=at_most_s
        )


async def deploy_for(
    pool: Pool,
    fleet: Sequence[Node],
    workspace: Code,
    env: Env,
    program: str,
    *,
    relay: Relay,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    seen: Callable[[Node, NodeFacts], None] | None = None,
) -> Report[Deployment]:
    """Do the same for a program of the project: ValueError if it is not among what is sent, before a node is touched;
    and so if the project lacks what the environment asks of it.

    Args:
        pool: the connections.
        fleet, workspace, env, relay, at_once, at_most_s: as for ``deploy_all``.
        program: its path relative to where it is started, "" for none.
        seen: is told of a node that has said what it is; what it raises ends the work on that node.
    """
    known = await located(env, as_workspace(workspace))

    async def work(node: Node, crew: Crew) -> Deployment:
        if seen is not None:
            seen(node, await probe_node(pool.at(node)))
        return await deploy_project(pool, node, crew, known)

    return await with_crew(fleet, workspace, relay, work, program=program, at_once=at_once, at_most_s=at_most_s)


@checked
async def deploy_and_run(
    nodes: Nodes,
    workspace: Code,
    command: Asked,
    env: Env = DEFAULT_ENV,
    *,
    relay: Relay = "auto",
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> Report[Completed]:
    """Push, make the environment and run a command in the project, each node at its pace; a status but 0 is a failure.

    Args:
        nodes: the nodes.
        workspace: what to push.
        command: a Command, a shell line, or a callable that gives one for each node.
        env: how a node becomes able to run it.
        relay: as for ``push_all``.
        at_once: how many nodes are worked on at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    Returns:
        A node whose command did not exit 0 is failed, with its Completed inside.

    Raises:
        ValueError: as ``deploy_all``.

    On cancellation the runs are ended.
    """
    fleet = parse_nodes(nodes)
    commands = commands_of(fleet, command)
    known = await located(env, as_workspace(workspace))
    async with lent_pool(pool) as lent:

        async def work(node: Node, crew: Crew) -> Completed:
            deployment = await deploy_project(lent, node, crew, known)
            return await run_in_project(lent, deployment, commands[node])

        return await with_crew(fleet, workspace, relay, work, at_once=at_once, at_most_s=at_most_s)
