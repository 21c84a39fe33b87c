"""Training on all nodes together, detached: launch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.desk.tell import show_plan
from asyncdeploy.cli.settings.choose import parsed_nodes
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.options import Project, Reach, Show
from asyncdeploy.cli.settings.values import launcher_of
from asyncdeploy.cli.settings.variables import pairs, secrets

_LAUNCH = Group("Launch", sort_key=0)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Gang:
    """How the ranks run together."""

    detach: Annotated[
        bool,
        Parameter(
            name=("--detach", "-d"),
            negative="",
            show_default=False,
            group=_LAUNCH,
            help="return when it runs; without, it is watched and its lines are shown",
        ),
    ] = False
    launcher: Annotated[
        Literal["torchrun", "ranks", "node"] | None,
        Parameter(group=_LAUNCH, help="torchrun; ranks: SCRIPT is a command, run once a rank; node: once a node"),
    ] = None
    name: Annotated[str | None, Parameter(group=_LAUNCH, help="what it is called; without, as the script")] = None
    nproc_per_node: Annotated[int | None, Parameter(group=_LAUNCH, help="ranks a node; without, one a GPU")] = None
    restarts: Annotated[
        int | None, Parameter(group=_LAUNCH, help="start it again when it fails, so often; only while it is watched")
    ] = None
    spares: Annotated[
        tuple[str, ...],
        Parameter(negative="", show_default=False, group=_LAUNCH, help="nodes that wait to take another's place"),
    ] = ()
    grace: Annotated[str | None, Parameter(group=_LAUNCH, help="from TERM to KILL when it is stopped: 30, 30s, 2m")] = (
        None
    )
    set: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--set", "-e"), negative="", show_default=False, group=_LAUNCH, help="NAME=VALUE for the ranks"
        ),
    ] = ()
    secret: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", show_default=False, group=_LAUNCH, help="NAME of a variable here whose value never shows"
        ),
    ] = ()
    dry_run: Annotated[
        bool, Parameter(negative="", show_default=False, group=_LAUNCH, help="only say what would be done")
    ] = False


def launch(
    script: str | None = None,
    /,
    *,
    gang: Gang = Gang(),
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
    behind: Annotated[tuple[str, ...], Parameter(parse=False)],
) -> int:
    """Deploy, and start one job on all nodes together, by torchrun; it is detached and outlives us.

    While it is followed here it is watched too: ranks that are left when one fails are stopped, restarts and spares
    work. Ctrl-C leaves it running. The exit status is the root cause's own.

    Parameters
    ----------
    script
        the program, relative to the project; its arguments stand behind --
    """

    async def work(desk: Desk) -> int:
        fleet = desk.nodes()
        launcher = launcher_of(desk.file, script, behind, _flags(gang))
        table = desk.file.launch
        spares = gang.spares or tuple(table.get("spares", ()))
        restarts = gang.restarts if gang.restarts is not None else table.get("restarts")
        grace_s = seconds(gang.grace, "--grace") if gang.grace is not None else table.get("grace_s", 5.0)
        workspace, env = desk.workspace(project), desk.env(project)
        if gang.dry_run:
            return show_plan(desk, await ad.plan_all(fleet, workspace, env, launcher=launcher, pool=desk.pool))
        launched = await ad.fan_out(
            fleet,
            workspace,
            launcher,
            env,
            grace_s=grace_s,
            restart=ad.Restart(restarts) if restarts else None,
            spares=parsed_nodes(desk.file, reach, spares) if spares else None,
            pool=desk.pool,
        )
        watching: Any = later("work.watching")
        return int(await watching.begin(desk, launched, env, detach=gang.detach))

    return attend("launch", work, reach, show, stages=not gang.dry_run)


def _flags(gang: Gang) -> dict[str, Any]:
    """Return what flags say, by the keys of [launch]."""
    said = {"launcher": gang.launcher, "name": gang.name, "nproc_per_node": gang.nproc_per_node}
    return {**said, "env": pairs(gang.set), "secrets": gang.secret if secrets(gang.secret) else ()}
