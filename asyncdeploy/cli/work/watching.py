"""A launch that is followed or waited for: who watches, what it prints, how it ended, and what to type next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.exits import CTRL_C, exit_of_launch
from asyncdeploy.cli.work.attached import with_count
from asyncdeploy.cli.work.echoes import Echoes
from asyncdeploy.cli.work.runs import Kept, remember
from asyncdeploy.cli.work.takeover import only_watcher, to_kept, with_restarts
from asyncdeploy.cli.work.written import flags_of

FOLD_S = 1.0


async def begin(desk: Desk, launch: ad.Launch, env: ad.Env, *, detach: bool) -> int:
    """Say what was launched, and follow it unless it is to be left alone at once."""
    out, recovery = desk.out, to_kept(launch)
    is_kept = remember(Kept(launch.id, launch.nodes, launch.created_at, recovery=recovery, env=env.to_dict()))
    named = "" if is_kept else f" {flags_of(launch.nodes)}"
    count, ranks = len(launch.nodes), launch.placement.world_size
    out.event("Launched", {"id": launch.id, "nodes": [node.name for node in launch.nodes], "ranks": ranks})
    out.say(f"launched {launch.id}: {ranks} rank{'s' * (ranks > 1)} on {count} node{'s' * (count > 1)}")
    if detach:
        if recovery is not None:
            out.say(f"nobody watches it: restarts and spares work while `asyncdeploy wait {launch.id}` does")
        out.result(launch.id)
        out.say(next_commands(launch.id, named))
        out.document({"ok": True, "exit": 0, "id": launch.id})
        return 0
    out.say(f"watching{' (restarts and spares work)' if recovery is not None else ''}; Ctrl-C leaves it running")
    with only_watcher(launch.id):
        return await follow(desk, launch, named)


async def follow(desk: Desk, launch: ad.Launch, named: str = "") -> int:
    """Show the lines of a launch and watch over it until it ends; return its exit status. Ctrl-C leaves it running."""
    desk.end_view()
    try:
        async with ad.follow_launch(launch, fold_s=FOLD_S, pool=desk.pool) as lines:
            echoes, shown = _listen(desk), launch.id
            async for line in lines:
                if lines.launch.id != shown:
                    _tell(desk, echoes.told(f"{shown}{named}"))
                    echoes, shown = _listen(desk, echoes), lines.launch.id
                if desk.out.json or not echoes.take(line, printers(line, lines.launch)):
                    show_line(desk, line, lines.launch)
        assert lines.report is not None
        if (failed := lines.failure) is not None and failed.node != echoes.failed:
            for line in echoes.of(failed.node):
                show_line(desk, line, lines.launch)
        _tell(desk, echoes.told(f"{shown}{named}"))
        return tell_end(desk, lines.launch, lines.report, named)
    except asyncio.CancelledError:
        tell_left(desk, first_id(launch), where=named)
        raise


def _listen(desk: Desk, before: Echoes | None = None) -> Echoes:
    """Return what holds back the echoes of an attempt's failure, in place of what did so for the one before."""
    echoes = Echoes()
    if before is not None:
        desk.listeners.remove(before.see)
    desk.listeners.append(echoes.see)
    return echoes


def _tell(desk: Desk, text: str) -> None:
    if text:
        desk.out.say(text)


def printers(line: ad.LaunchLine, launch: ad.Launch) -> list[str]:
    """Return the names of the nodes that printed a line."""
    return [launch.nodes[rank].name for rank in line.node_ranks] or [line.node]


async def wait(desk: Desk, launch: ad.Launch, kept: Kept | None) -> int:
    """Watch over a launch until it ends and return its exit status; who began it has gone, so its restarts are ours."""
    with only_watcher(kept.id if kept is not None else launch.id) as is_only:
        if is_only:
            launch, why_not = with_restarts(launch, kept)
        else:
            why_not = "another process here watches it too, and starts it again"
        works = " (restarts and spares work)" if launch.attempts is not None else ""
        desk.out.say(f"watching {launch.id}{works}: when a rank fails the others are stopped; Ctrl-C leaves it running")
        if why_not:
            desk.out.say(why_not)
        where = where_of(kept, launch.nodes)
        try:
            report = await ad.wait_launch(launch, pool=desk.pool)
            return tell_end(desk, launch.current, report, where)
        except asyncio.CancelledError:
            tell_left(desk, first_id(launch), where=where)
            raise


def show_line(desk: Desk, line: ad.LaunchLine, launch: ad.Launch) -> None:
    """Print one line of a launch, those that printed it alike in front."""
    if desk.out.json:
        desk.out.event("LaunchLine", {**line.to_dict()})
        return
    desk.out.line(f"{with_count(printers(line, launch))}: {line.shown(colours=desk.out.colours)}")


def tell_end(desk: Desk, launch: ad.Launch, report: ad.Report[ad.JobStatus], where: str) -> int:
    """Say how a launch ended and what may be typed next, and return its exit status; ``where`` as for ``tell_left``."""
    code, out = exit_of_launch(report), desk.out
    if out.json:
        out.document({"ok": report.ok, "exit": code, "id": launch.id, "report": report})
        return code
    if report.ok:
        out.say(f"{launch.id} is done: exit status 0 on all of {len(report)} nodes")
        out.say(f"  asyncdeploy collect {first_id(launch)}{where}   brings its results home")
        return code
    errors = [outcome.error for outcome in report.failures if outcome.error is not None]
    root = next((error for error in errors if isinstance(error, ad.LaunchFailed)), None)
    stopped = all(outcome.ok or outcome.state == "cancelled" for outcome in report)
    if root is None and stopped:
        out.say(f"{launch.id} was stopped")
        return code
    out.error(root if root is not None else ad.FleetError.of(report), code)
    out.say(_after_failure(f"{first_id(launch)}{where}"))
    return code


def _after_failure(run: str) -> str:
    return _in_columns(
        (f"asyncdeploy why {run}", "says this again"),
        (f"asyncdeploy logs {run}", "all that it printed"),
        (f"asyncdeploy collect {run} --logs", "brings the logs of all ranks home"),
    )


def first_id(launch: ad.Launch) -> str:
    """Return the id by which this home remembers a launch; any of its attempts is found by it."""
    return launch.before[0] if launch.before else launch.id


def where_of(kept: Kept | None, nodes: Sequence[ad.Node]) -> str:
    """Return what must be typed behind a run's id for its nodes to be found: nothing where this home remembers it."""
    return "" if kept is not None else f" {flags_of(nodes)}"


def tell_left(
    desk: Desk, run: str, how: str = "runs on; nobody watches it now", *, where: str = "", alone: bool = False
) -> None:
    """Say that what is detached runs on, and how to come back.

    Args:
        desk: where.
        run: its id.
        how: what becomes of it.
        where: flags that name its nodes, see ``where_of``.
        alone: its jobs are each alone: a start's, and nobody watches over those.
    """
    desk.left = True
    desk.out.event("Left", {"id": run})
    desk.out.say(f"\n{run} {how}")
    desk.out.say(next_commands(run, where, alone=alone))
    desk.out.document({"ok": False, "exit": CTRL_C, "id": run})


def next_commands(run: str, where: str = "", *, alone: bool = False) -> str:
    """Return what may be typed next; the arguments as for ``tell_left``."""
    return _in_columns(
        (f"asyncdeploy logs {run}{where} -f", "what it prints; only looks"),
        (
            f"asyncdeploy wait {run}{where}",
            "waits until all of it has ended" if alone else "watches over it until it ends",
        ),
        (f"asyncdeploy stop {run}{where}", "ends it on all nodes"),
    )


def _in_columns(*rows: tuple[str, str]) -> str:
    width = max(len(command) for command, _ in rows)
    return "\n".join(f"  {command:<{width}}  {what}" for command, what in rows)
