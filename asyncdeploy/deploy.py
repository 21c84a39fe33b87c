"""One node, from bare to running: deploy a project, run and start its commands, bring its results home."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.source import find_source
from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.base import Env, LocalEnv
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.built import Built
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.node import Node
from asyncdeploy.nodes.report import Outcome
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.push import finish_push, push_code
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import start_job
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, Completed, as_command
from asyncdeploy.values.serialize import PlainData, read_by
from asyncdeploy.values.shown.one_line import OneLine
from asyncdeploy.values.shown.table import Described, Table, tally
from asyncdeploy.values.workspace import Collected, Site, Workspace, as_workspace


@attrs.frozen(repr=False)
class Deployment(OneLine, Described, PlainData):
    """A project that stands on a node, able to run.

    Attributes:
        node: the node.
        site: where its code is.
        env: the environment that was made there.
        facts: what the node was when it was deployed to.
        built: what the environment turned out to be; None if it did not say.
    """

    node: Node
    site: Site
    env: Env = attrs.field(metadata=read_by(env_from_dict))
    facts: NodeFacts = attrs.field(repr=False)
    built: Built | None = None

    def gist(self) -> str:
        """Return where the project stands, and in which environment."""
        return f"{self.site.path}, {type(self.env).__name__}"

    def table(self) -> Table:
        """Return what a person is shown: where the project stands, and on what."""
        rows = [("site", self.site.path), ("digest", self.site.digest), ("environment", type(self.env).__name__)]
        gpus = tally([gpu.name for gpu in self.facts.gpus]) or "none"
        rows += [("machine", f"{self.facts.system} {self.facts.arch}, {self.facts.cpus} cpus"), ("gpus", gpus)]
        return Table(f"deployed on {self.node.name}", (), tuple(rows))

    def enter(self, command: Command | str) -> Command:
        """Return a command as it must run in this project: in its environment, by default in its folder."""
        asked = as_command(command)
        entered = self.env.enter(asked, self.site, self.facts)
        return entered if entered.line == asked.line else attrs.evolve(entered, told=asked.shown)


def by_node(deployments: Iterable[Any]) -> dict[Node, Deployment]:
    """Return deployments by their nodes, in their order, which is node rank order.

    Raises:
        ValueError: one is no Deployment (a report's outcome, say), or two are of one node: one of them would be lost.
    """
    found: dict[Node, Deployment] = {}
    for deployment in deployments:
        if not isinstance(deployment, Deployment):
            hint = "; pass report.unwrap()" if isinstance(deployment, Outcome) else ""
            raise ValueError(f"a Deployment was expected, got {type(deployment).__name__}{hint}")
        if deployment.node in found:
            name = deployment.node.name
            raise ValueError(f"one deployment a node was expected, got two of {name}: give each its own call")
        found[deployment.node] = deployment
    return found


@checked
async def deploy_project(
    pool: Pool, node: Node, workspace: Workspace | Bundle | Crew | Path | str, env: Env
) -> Deployment:
    """Put a project on a node and make its environment there.

    Args:
        pool: lends the connection.
        node: where to.
        workspace: a Workspace or folder; or a Bundle or Crew, which is scanned once and serves many nodes.
        env: how the node becomes able to run it.

    Raises:
        ValueError: the project does not have what the environment asks of it (an extra); nothing was sent.
        DeployError: as ``probe_node``, ``push_code`` and ``bootstrap_env``.

    On cancellation the old tree or the new one stands, whole, and a half-made environment is not named as made.
    """
    remote = pool.at(node)
    facts = await probe_node(remote)
    env = await located(env, workspace)
    site = await push_code(remote, workspace)
    built = await bootstrap_env(remote, site, env)
    return Deployment(node, site, env, facts, built)


async def located(env: Env, workspace: Workspace | Bundle | Crew | Path | str) -> Env:
    """Return an environment that knows where the project lies on this machine.

    Raises:
        ValueError: the project does not have what the environment asks of it.
    """
    if not isinstance(env, LocalEnv):
        return env
    source = await workspace.scanned() if isinstance(workspace, Crew) else workspace  # noqa: ASYNC240 - no Path's
    place = source.workspace if isinstance(source, Bundle) else as_workspace(source)
    return await run_in_thread(env.with_folder, place.path / (place.project or ""))


@checked
async def run_in_project(
    pool: Pool, deployment: Deployment, command: Command | str, *, check: bool = False
) -> Completed:
    """Run a command in a deployed project and return what it left.

    Args:
        pool: lends the connection.
        deployment: the project on its node.
        command: a Command, or a shell line; its cwd is the project's folder unless it has one.
        check: raise CommandFailed unless it ends with status 0.

    Raises:
        DeployError: as ``run_command``; and as ``finish_push`` where the node died while it was pushed to.

    On cancellation the run is ended on the node.
    """
    remote = pool.at(deployment.node)
    await finish_push(remote, deployment.site.path)
    return await run_command(remote, deployment.enter(command), check=check)


@checked
async def start_in_project(
    pool: Pool, deployment: Deployment, command: Command | str, *, name: str, tmux: bool = False
) -> Job:
    """Start a detached job in a deployed project; it outlives us.

    Args:
        pool: lends the connection.
        deployment: the project on its node.
        command: a Command, or a shell line; its cwd is the project's folder unless it has one.
        name: of the job; one of a name runs on a site at a time.
        tmux: as for ``start_job``: a window onto it, for people.

    Raises:
        DeployError: as ``start_job``; and as ``finish_push`` where the node died while it was pushed to.

    On cancellation nothing of the job stays running.
    """
    remote = pool.at(deployment.node)
    await finish_push(remote, deployment.site.path)
    return await start_job(remote, deployment.enter(command), name=name, site=deployment.site, tmux=tmux)


@checked
async def collect_results(
    pool: Pool,
    deployment: Deployment,
    source: str,
    target: Path | str,
    *,
    limits: CollectLimits | None = None,
    allow_partial: bool = False,
) -> Collected:
    """Bring a file or folder of a deployed project home, all that was asked for or CollectIncomplete.

    Args:
        pool: lends the connection.
        deployment: the project on its node.
        source: on the node: relative to the project's folder, absolute, or "~/...".
        target: local folder.
        limits: what of it comes, and bounds on what is accepted.
        allow_partial: take what there is; what does not come is only told.

    Raises:
        CollectIncomplete: without ``allow_partial``: some of it did not come; its ``collected`` says what did.
        DeployError: as ``sync_results``.

    On cancellation no partial file stands under a final name.
    """
    path = find_source(source, deployment.site.workdir, "collect_results source")
    return await sync_results(pool.at(deployment.node), path, target, limits=limits, allow_partial=allow_partial)
