"""To the end of a run and behind it: wait, stop, collect, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.desk.tell import tell
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.options import Reach, Show

_RESULTS = Group("Results", sort_key=0)
Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def wait(run: str, /, *, reach: Reach = Reach(), show: Show = Show()) -> int:
    """Watch over a run until it ends: when a rank fails the others are stopped, and the cause is named.

    Ctrl-C leaves it running. The exit status is the root cause's own.

    Parameters
    ----------
    run
        an id, its beginning, or "last"
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.ending").wait(desk, run))

    return attend("wait", work, reach, show)


def stop(
    run: str,
    /,
    *,
    grace: Annotated[str | None, Parameter(help="from TERM to KILL: 30, 30s, 2m; without, the run's own")] = None,
    reach: Reach = Reach(),
    show: Show = Show(),
) -> int:
    """End a run on all of its nodes, and everything that it started.

    Parameters
    ----------
    run
        an id, its beginning, or "last"
    """

    async def work(desk: Desk) -> int:
        grace_s = seconds(grace, "--grace") if grace is not None else None
        return int(await later("work.ending").stop(desk, run, grace_s))

    return attend("stop", work, reach, show)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Results:
    """What comes home, and where to."""

    source: Annotated[
        str | None, Parameter(group=_RESULTS, help="in the project's folder on the nodes, or absolute; else `results`")
    ] = None
    to: Annotated[Path | None, Parameter(group=_RESULTS, help="folder here; else ./results")] = None
    logs: Annotated[
        bool, Parameter(negative="", show_default=False, group=_RESULTS, help="the logs of all ranks instead")
    ] = False
    partial: Annotated[bool, Parameter(negative="", show_default=False, group=_RESULTS, help="take what there is")] = (
        False
    )
    every: Annotated[
        str | None, Parameter(group=_RESULTS, help="again and again while it runs: every 60s, 10m; then a last time")
    ] = None
    include: Annotated[
        tuple[str, ...], Parameter(negative="", show_default=False, group=_RESULTS, help="patterns of what comes")
    ] = ()
    without: Annotated[
        tuple[str, ...], Parameter(negative="", show_default=False, group=_RESULTS, help="patterns of what stays")
    ] = ()


def collect(run: str, /, *, results: Results = Results(), reach: Reach = Reach(), show: Show = Show()) -> int:
    """Bring a run's results home: a folder a node, only what changed, not ok unless all of it came.

    Parameters
    ----------
    run
        an id, its beginning, or "last"
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.ending").collect(desk, run, results))

    return attend("collect", work, reach, show)


def clean(
    *nodes: str,
    older_than: str = "30d",
    dry_run: Flag = False,
    reach: Reach = Reach(),
    show: Show = Show(),
) -> int:
    """Take away what deployments left on nodes and nobody has used for long; never anything that runs.

    Parameters
    ----------
    nodes
        where: root@gpu[01-08]:22, @group
    older_than
        since its last use: 12h, 30d
    dry_run
        only say what would go
    """

    async def work(desk: Desk) -> int:
        # Seconds where days were meant would take away what was used this morning.
        fleet, age_s = desk.nodes(nodes), seconds(older_than, "--older-than", bare=False)
        report: Any = await ad.clean(fleet, older_than_s=age_s, dry_run=dry_run, pool=desk.pool)
        for cleaned in report.values:
            for item in cleaned.items:
                kept = f"  stays: {item.kept}" if item.kept else ""
                desk.out.result(f"{cleaned.node}: {item.kind} {item.path} {item.bytes / 1e6:.1f} MB{kept}")
        return tell(desk, report, "were looked at; nothing was changed" if dry_run else "are clean")

    return attend("clean", work, reach, show)
