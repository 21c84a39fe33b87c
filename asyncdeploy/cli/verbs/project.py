"""A project on nodes: push, deploy."""

from __future__ import annotations

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.tell import tell
from asyncdeploy.cli.settings.options import Project, Reach, Show


def push(
    *nodes: str,
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
) -> int:
    """Send the project's files to nodes: git's own list, only what changed, put in place at once.

    Parameters
    ----------
    nodes
        where to: root@gpu[01-08]:22, @group
    """

    async def work(desk: Desk) -> int:
        desk.stages = True
        fleet, workspace = desk.nodes(nodes), desk.workspace(project)
        return tell(desk, await ad.push_all(fleet, workspace, pool=desk.pool), f"have {workspace.path.name}")

    return attend("push", work, reach, show)


def deploy(
    *nodes: str,
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
) -> int:
    """Push the project and make its environment on nodes; done in one round trip where nothing changed.

    Parameters
    ----------
    nodes
        where to: root@gpu[01-08]:22, @group
    """

    async def work(desk: Desk) -> int:
        desk.stages = True
        fleet, workspace = desk.nodes(nodes), desk.workspace(project)
        return tell(desk, await ad.deploy_all(fleet, workspace, desk.env(project), pool=desk.pool), "are ready")

    return attend("deploy", work, reach, show)
