"""Which launches there are, and what one of them is at this moment. Looking only: nobody watches because of it."""

from __future__ import annotations

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.arguments import Nodes, lent_pool
from asyncdeploy.launch.follow.explain import explain
from asyncdeploy.launch.follow.looks import look_at_launch, look_for_launches
from asyncdeploy.launch.follow.status import LaunchStatus
from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE
from asyncdeploy.nodes.parse import fold_names, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import LaunchFailed
from asyncdeploy.values.shown.moments import clock, lasting
from asyncdeploy.values.shown.table import Table, count

HEAD = ("run", "nodes", "state", "started", "elapsed", "last line")
NEWEST = 100
"""Launches of a node that are told unless more are asked for: what a person reads."""


@attrs.frozen(repr=False)
class LaunchList(Report[tuple[LaunchStatus, ...]]):
    """The launches that lie on nodes: a Report of those of each node, and all of them together.

    A node that did not answer is among its ``failures``.
    """

    @property
    def launches(self) -> tuple[LaunchStatus, ...]:
        """Every launch once, the newest first."""
        found = {status: None for outcome in self.outcomes for status in outcome.value or ()}
        return tuple(sorted(found, key=lambda status: status.created_at, reverse=True))

    def table(self) -> Table:
        """Return a row a launch, the newest first; below them who did not answer."""
        rows = [
            (
                each.id,
                fold_names(each.nodes),
                each.words,
                clock(each.started_at),
                lasting(each.started_at, each.ended_at),
                each.last_line,
            )
            for each in self.launches
        ]
        silent = [f"{each.node.name}: {each.error.message if each.error else each.state}" for each in self.failures]
        title = "" if rows else f"no launch lies on {count(len(self), 'node')}"
        return Table(title, HEAD if rows else (), tuple(rows), tuple(silent))


@checked
async def list_launches(
    nodes: Nodes,
    *,
    newest: int = NEWEST,
    at_once: int = CALLS_AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> LaunchList:
    """Return what launches lie on nodes, and what each is at this moment; nobody watches over them because of that.

    A launch is asked for on those of its nodes that are named here, by the names that they had when it was launched;
    of the others its status says that they were not asked. Of one that was started again the last attempt is told.

    Args:
        nodes: where to look; one of a launch's nodes is enough to find it.
        newest: how many launches of a node, those that were started last; that there are more is said by an event.
        at_once: how many nodes are asked at a time.
        at_most_s: a node's own time for each of three questions; one that takes longer did not answer.
        pool: the connections.

    Returns:
        The launches of each node, and all of them as ``launches``. A node that does not answer, or has no python3, is
        a failure; folders there that are no launches of ours are passed over.

    Raises:
        ValueError: ``newest`` is below 1.

    On cancellation nothing has changed anywhere.
    """
    if newest < 1:
        raise ValueError(f"list_launches newest: at least 1 was expected, got {newest}")
    fleet = parse_nodes(nodes)
    async with lent_pool(pool) as lent:
        report = await look_for_launches(lent, fleet, newest=newest, at_once=at_once, at_most_s=at_most_s)
    return LaunchList(report.outcomes)


@checked
async def launch_status(launch: Launch, *, at_most_s: float | None = None, pool: Pool | None = None) -> LaunchStatus:
    """Return what a launch is at this moment; it only looks: who waits or follows watches.

    Args:
        launch: the launch; of one that was started again here, its last attempt is looked at.
        at_most_s: a node's own time; one that takes longer did not answer.
        pool: the connections.

    Returns:
        The state of the whole, and each rank's; nodes that do not answer are named with the reason.

    On cancellation the launch is left as it is.
    """
    async with lent_pool(pool) as lent:
        return await look_at_launch(lent, launch.current, at_most_s=at_most_s)


@checked
async def explain_launch(
    launch: Launch, *, at_most_s: float | None = None, pool: Pool | None = None
) -> LaunchFailed | None:
    """Return why a launch failed, by what its nodes say now; it only looks, and waits for nobody.

    Args:
        launch: the launch; of one that was started again here, its last attempt is looked at.
        at_most_s: a node's own time for each question; one that takes longer did not answer.
        pool: the connections.

    Returns:
        The root cause, as ``wait_launch`` would report it; None where no rank that answers failed by itself, or ended
        because of another one. What still runs is left running, and said to be.

    On cancellation the launch is left as it is.
    """
    async with lent_pool(pool) as lent:
        return await explain(lent, launch.current, at_most_s=at_most_s)
