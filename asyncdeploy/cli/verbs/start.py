"""A command on each node, detached: start."""

from __future__ import annotations

import time
from typing import Annotated, Any

from cyclopts import Parameter

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.desk.tell import tell
from asyncdeploy.cli.settings.options import Project, Reach, Show
from asyncdeploy.cli.verbs.run import Asked


def start(
    *nodes: str,
    name: str,
    asked: Asked = Asked(),
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
    behind: Annotated[tuple[str, ...], Parameter(parse=False)],
) -> int:
    """Deploy the project, and start a command in it on each node, detached: it outlives us.

    Parameters
    ----------
    nodes
        where: root@gpu[01-08]:22, @group
    name
        what it is called: logs, wait, stop and collect take it
    """

    async def work(desk: Desk) -> int:
        runs: Any = later("work.runs")
        runs.check_job_name(name)  # before anything is deployed
        command, fleet = asked.command(behind), desk.nodes(nodes)
        workspace, env = desk.workspace(project), desk.env(project)
        deployed = await ad.deploy_all(fleet, workspace, env, at_once=asked.at_once, pool=desk.pool)
        if not deployed.ok:  # all of them or none: half of a start is nobody's wish
            return tell(desk, deployed, "")
        ready, created_at = deployed.unwrap(), time.time()
        jobs = await ad.start_all(ready, command, name=name, at_once=asked.at_once, pool=desk.pool)
        return int(later("work.starting").begun(desk, name, jobs, ready, created_at))

    return attend("start", work, reach, show, stages=True)
