"""What there is and why it is so: ps, logs, why. Nothing changes because somebody looks."""

from __future__ import annotations

from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter

from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.settings.options import Reach, Show

_LINES = Group("Lines", sort_key=0)


def ps(run: str | None = None, /, *, reach: Reach = Reach(), show: Show = Show()) -> int:
    """Show what runs and ran on the nodes; with RUN, each of its ranks.

    Parameters
    ----------
    run
        an id, its beginning, or "last"
    """

    async def work(desk: Desk) -> int:
        looking: Any = later("work.looking")
        return int(await (looking.show_run(desk, run) if run else looking.show_all(desk)))

    return attend("ps", work, reach, show, asks=True)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Lines:
    """Which lines."""

    follow: Annotated[
        bool,
        Parameter(
            name=("--follow", "-f"),
            negative="",
            show_default=False,
            group=_LINES,
            help="go on with what comes; it only looks: nobody watches over the run because of it",
        ),
    ] = False
    tail: Annotated[int | None, Parameter(group=_LINES, help="only the last so many")] = None
    since: Annotated[
        str | None, Parameter(group=_LINES, help="only what was printed in the last so long: 90s, 10m, 2h, 1d")
    ] = None
    rank: Annotated[int | None, Parameter(group=_LINES, help="only of the node of this global rank")] = None


def logs(run: str, /, *, lines: Lines = Lines(), reach: Reach = Reach(), show: Show = Show()) -> int:
    """Print what a run has printed, all nodes in one order of time.

    Parameters
    ----------
    run
        an id, its beginning, or "last"
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.printed").show_lines(desk, run, lines))

    return attend("logs", work, reach, show)


def why(run: str, /, *, reach: Reach = Reach(), show: Show = Show()) -> int:
    """Say why a run failed: the root cause, then what it did to the others. While it runs: where each rank stands.

    Parameters
    ----------
    run
        an id, its beginning, or "last"
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.looking").explain(desk, run))

    return attend("why", work, reach, show, asks=True)
