"""A project on nodes: plan, push, deploy."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.tell import show_plan, tell
from asyncdeploy.cli.settings.options import Project, Reach, Show

DryRun = Annotated[bool, Parameter(negative="", show_default=False, help="only say what would be done")]


def push(
    *nodes: str,
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
    dry_run: DryRun = False,
) -> int:
    """Send the project's files to nodes: git's own list, only what changed, put in place at once.

    Parameters
    ----------
    nodes
        where to: root@gpu[01-08]:22, @group
    """

    async def work(desk: Desk) -> int:
        fleet, workspace = desk.nodes(nodes), desk.workspace(project)
        if dry_run:
            return show_plan(desk, await ad.plan_all(fleet, workspace, None, pool=desk.pool))
        return tell(desk, await ad.push_all(fleet, workspace, pool=desk.pool), f"have {workspace.path.name}")

    return attend("push", work, reach, show, stages=not dry_run)


def deploy(
    *nodes: str,
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
    dry_run: DryRun = False,
) -> int:
    """Push the project and make its environment on nodes; done in one round trip where nothing changed.

    Parameters
    ----------
    nodes
        where to: root@gpu[01-08]:22, @group
    """

    async def work(desk: Desk) -> int:
        fleet, workspace, env = desk.nodes(nodes), desk.workspace(project), desk.env(project)
        if dry_run:
            return show_plan(desk, await ad.plan_all(fleet, workspace, env, pool=desk.pool))
        return tell(desk, await ad.deploy_all(fleet, workspace, env, pool=desk.pool), "are ready")

    return attend("deploy", work, reach, show, stages=not dry_run)


def plan(*nodes: str, project: Project = Project(), reach: Reach = Reach(), show: Show = Show()) -> int:
    """Say what a deploy would do: what would be sent and what not, what would be made; nothing is changed.

    Of a launch `asyncdeploy launch --dry-run` says it, with the exact command of each node.

    Parameters
    ----------
    nodes
        where to: root@gpu[01-08]:22, @group
    """

    async def work(desk: Desk) -> int:
        fleet, workspace, env = desk.nodes(nodes), desk.workspace(project), desk.env(project)
        return show_plan(desk, await ad.plan_all(fleet, workspace, env, pool=desk.pool))

    return attend("plan", work, reach, show, asks=True)
