"""The invariants: what must hold after each call, and at the end."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from asyncdeploy.run.job import JobStatus
from asyncdeploy.run.jobs import LATE_S
from asyncdeploy.run.streams import KEEP
from asyncdeploy.values.command import Completed
from asyncdeploy.values.errors import (
    Cancelled,
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    DeployError,
    JobExists,
    JobFailed,
    JobLost,
)
from tests.simulator.machine.world import HARMLESS
from tests.simulator.trees import tree

if TYPE_CHECKING:
    from tests.simulator.calls import Called
    from tests.simulator.machine.world import Record, World

BACK_S = 5.3
"""A call is back so soon after it was given up: 5 s, and a moment for each of its layers."""
REPEATED = ("wait", "follow", "status", "stop", "list", "find", "log")
"""Calls that change nothing by being made twice: a connection that breaks is made again."""
PROMPT_S = 6.0
"""Of a stop, its grace of 1 s included, and of a question that goes ahead of others, where nothing befell the node."""
LONGEST_S = 700.0
"""Of a call that nobody gives up: the longest line, connecting, a silence until it is believed, some tries of that."""


def check(world: World, called: Called) -> None:
    """Look at one call that is back."""
    _check_kind(world, called)
    _check_bound(world, called)
    if called.error is None and called.step.does in CHECKS:
        CHECKS[called.step.does](world, called)
    if called.step.does == "start":
        _check_start(world, called)
    if world.trees is not None:
        _check_tree(world, called)
    if called.step.does == "run":
        _check_started(world, called)


def _check_kind(world: World, called: Called) -> None:
    error = called.error
    given_up = called.gave_up_at is not None and isinstance(error, (asyncio.CancelledError, TimeoutError))
    if not (error is None or isinstance(error, DeployError) or given_up):
        world.breaks(f"{called}: no error of ours: {''.join(traceback.format_exception(error))[-1500:]}")
    if isinstance(error, DeployError) and world.secret in f"{error!r}{error.to_dict()}":
        world.breaks(f"{called}: a secret in an error")
    if isinstance(error, (ConnectionLost, ConnectError)) and called.step.does in REPEATED and _came_back(world, called):
        world.breaks(f"{called}: the node could be asked again")
    foreseen = isinstance(error, (JobExists, JobLost)) or called.step.does == "run"
    if isinstance(error, DeployError) and not foreseen and not world.is_touched(called.names[-1]):
        world.breaks(f"{called}: nothing befell the node")


def _came_back(world: World, called: Called) -> bool:
    """Whether all that befell a node was over at once, and came so seldom that a question could be asked again."""
    fates = [what for _, what, where, _ in world.befell if where == called.names[0] and what not in HARMLESS]
    return len(fates) < 4 and all(what in ("cut", "kill worker", "kill supervisor", "drop", "full") for what in fates)


def _check_bound(world: World, called: Called) -> None:
    step, until = called.step, called.began_at + LONGEST_S
    if step.does in ("stop", "status") and not world.is_touched(called.names[0]):
        until = called.began_at + PROMPT_S
    timed = step.timeout_s is not None and step.does in ("run", "wait")
    given_up = [called.began_at + (step.timeout_s or 0.0) + (LATE_S if step.does == "wait" else 0.0)] if timed else []
    given_up += [called.began_at + step.at_most_s] if step.at_most_s is not None else []
    given_up += [called.gave_up_at] if called.gave_up_at is not None else []
    # Who is cancelled again, by another, while it ends what it runs has its 5 s from then on.
    for at in sorted(given_up):
        until = min(until, at + BACK_S) if until > at + 2 * BACK_S else max(until, at + BACK_S)
    if called.ended_at > until:
        world.breaks(
            f"{called}: back {called.ended_at - until:.2f} s too late, after {called.ended_at - called.began_at:.2f} s"
        )


def _check_started(world: World, called: Called) -> None:
    """Look at what a run started, whatever its caller was told."""
    given_up = called.gave_up_at is not None and called.value is None
    for name in called.names:
        found = _of(world, called, name)
        if len(found) > 1:
            world.breaks(f"{called}: started {len(found)} times on {name}")
        if any(record.stdin != (called.step.stdin or b"") for record in found):
            world.breaks(f"{called}: started with {len(found[0].stdin)} bytes of its input")
        if given_up and not world.is_touched(name) and any(not record.is_ended for record in found):
            world.breaks(f"{called}: it was given up, and lives on {name}")


def _of(world: World, called: Called, name: str) -> list[Record]:
    tag = f"SIM_TAG={called.tag}".encode()
    return [record for record in world.records if record.node == name and tag in record.env]


# -- runs -----------------------------------------------------------------------------------------------------------


def _check_run(world: World, called: Called) -> None:
    report = called.value
    if tuple(outcome.node.name for outcome in report.outcomes) != called.names:
        world.breaks(f"{called}: not one outcome for each node")
    for outcome in report.outcomes:
        name = outcome.node.name
        if world.nodes[name].lied:
            continue
        found = _of(world, called, name)
        why = _wrong_outcome(world, called, outcome, found[0] if found else None)
        if why:
            world.breaks(f"{called}: {name}: {why}")


def _wrong_outcome(world: World, called: Called, outcome: Any, record: Record | None) -> str:
    """Return what is wrong with one node's outcome, or ""."""
    value, error = outcome.value, outcome.error
    if outcome.state == "ok" and (record is None or record.status != 0 or not isinstance(value, Completed)):
        return "ok, and no zero was recorded"
    if outcome.state == "ok" and not _is_all_of(value, bytes(record.printed)):  # type: ignore[union-attr]
        return f"printed {len(record.printed)} bytes, of which {len(value.stdout)} came"  # type: ignore[union-attr]
    if isinstance(error, CommandFailed) and record is not None:
        if (error.status, error.signal is None) != (record.status, record.signal is None):
            return f"{error!r}, but it ended with {record.status} {record.signal}"
    elif isinstance(error, CommandTimeout):
        if error.ended and record is not None and not record.is_ended:
            return "said to be ended, and lives"
        if value is not None and record is not None and not bytes(record.printed).startswith(value.stdout[:KEEP]):
            return "other output than it printed"
        whole = value is not None and record is not None and _is_all_of(value, bytes(record.printed))
        if error.ended and record is not None and not whole and not world.is_touched(outcome.node.name):
            return "output is lost"
        if called.step.timeout_s is None:
            return "timed out without a timeout"
    elif isinstance(error, ConnectError) and record is not None:
        return "could not connect, and ran"
    elif not isinstance(error, (DeadlineExceeded, Cancelled)) and not world.is_touched(outcome.node.name):
        return f"nothing befell the node: {error!r}" if error is not None else ""
    return ""


def _is_all_of(value: Completed, printed: bytes) -> bool:
    """Whether a run's output is what it printed, its middle left out where that is much."""
    if len(printed) <= 2 * KEEP:
        return value.stdout == printed and not value.dropped
    ends = value.stdout.startswith(printed[:KEEP]) and value.stdout.endswith(printed[-KEEP:])
    return ends and value.dropped == len(printed) - 2 * KEEP


# -- jobs -----------------------------------------------------------------------------------------------------------


def _check_start(world: World, called: Called) -> None:
    assert called.job is not None
    name, job_id = called.names[0], called.job.id
    node = world.nodes[name]
    found = [record for record in world.records if record.key == job_id]
    if len(found) > 1:
        world.breaks(f"{called}: started {len(found)} times")
    lives = any(not record.is_ended for record in found)
    if node.lied:
        return
    if any(record.stdin != (called.step.stdin or b"") for record in found):
        world.breaks(f"{called}: started with {len(found[0].stdin)} bytes of its input")
    if called.error is None and not found:
        world.breaks(f"{called}: it was never started")
    if called.error is None and called.step.has_secret and f"TOKEN={world.secret}".encode() not in found[0].env:
        world.breaks(f"{called}: a secret did not arrive")
    if isinstance(called.error, (JobFailed, JobExists)) and lives:
        world.breaks(f"{called}: said not to be started, and lives")
    if isinstance(called.error, (asyncio.CancelledError, TimeoutError)) and lives and not world.is_touched(name):
        world.breaks(f"{called}: the start was given up, and lives")
    if isinstance(called.error, JobExists):
        twin = node.jobs.get(called.error.job_id)  # it runs until its end is written, on a disk that may be slow
        if twin is None or (twin.ended_at is not None and twin.ended_at < called.began_at):
            world.breaks(f"{called}: no such job ran")


def _check_status(world: World, called: Called) -> None:
    status, name = called.value, called.names[0]
    if world.nodes[name].lied or not isinstance(status, JobStatus) or called.job is None:
        return
    record = world.record(called.job.id)
    folder = world.nodes[name].jobs.get(called.job.id)
    if status.ok and (record is None or record.status != 0):
        world.breaks(f"{called}: ok, and no zero was recorded")
    if status.state in ("exited", "signalled") and (folder is None or folder.end is None):
        world.breaks(f"{called}: ended, and no end was recorded")
    if status.state == "lost" and folder is not None and (folder.ended_at or 1e9) < called.began_at:
        world.breaks(f"{called}: an end was recorded, and is lost")
    if status.state == "exited" and record is not None and status.exit_status != record.status:
        world.breaks(f"{called}: it ended with {record.status}")
    timed = called.step.timeout_s is not None
    if called.step.does in ("wait", "stop") and not timed and not status.ended:
        world.breaks(f"{called}: neither an end nor an error")
    if called.step.does == "stop" and record is not None and not record.is_ended:
        world.breaks(f"{called}: stopped, and lives")


def _check_list(world: World, called: Called) -> None:
    node = world.nodes[called.names[0]]
    if node.lied:
        return
    listed = {job.id for job in called.value}
    running = {job_id for job_id in called.known if (folder := node.jobs.get(job_id)) and folder.boot}
    if running - listed:
        world.breaks(f"{called}: not listed: {sorted(running - listed)}")
    if listed - set(node.jobs) - called.known:
        world.breaks(f"{called}: listed, and not there: {sorted(listed)}")


def _check_log(world: World, called: Called) -> None:
    node = world.nodes[called.names[0]]
    if called.job is None or node.lied:
        return
    record = world.record(called.job.id)
    printed = bytes(record.printed).decode() if record is not None else ""
    if not printed.startswith(called.value):
        world.breaks(f"{called}: another log than it printed")


def _check_follow(world: World, called: Called) -> None:
    node, (lines, state) = world.nodes[called.names[0]], called.value
    if called.job is None or node.lied:
        return
    record = world.record(called.job.id)
    printed = bytes(record.printed).decode().splitlines() if record is not None else []
    if lines != printed[: len(lines)] or (state in ("exited", "signalled") and lines != printed):
        world.breaks(f"{called.tag} follow: {len(lines)} lines came of {len(printed)}, or others")


def _check_tree(world: World, called: Called) -> None:
    assert world.trees is not None
    name = called.names[0]
    if called.error is None and called.step.does == "push" and world.trees.found(name) != tree(world.trees.version):
        world.breaks(f"{called}: pushed, and another tree stands there")
    works = any(process.name.endswith("/worker") for process in world.nodes[name].processes.values())
    if not works and not world.trees.is_begun(name) and (wrong := world.trees.wrong(name)):
        world.breaks(f"{called}: {wrong}")


CHECKS = {
    "follow": _check_follow,
    "run": _check_run,
    "wait": _check_status,
    "stop": _check_status,
    "status": _check_status,
    "list": _check_list,
    "log": _check_log,
}


# -- the end --------------------------------------------------------------------------------------------------------


def check_end(world: World) -> None:
    """Look at the whole world once nothing befalls it any more, every job was stopped, and every silence is over."""
    for record in world.living():
        if not world.nodes[record.node].lied:
            world.breaks(f"{record.key} on {record.node} lives, and nobody holds it: {record.line}")
    for first in world.records:
        for second in world.records:
            overlap = second.started_at > first.started_at and (first.ended_at or 1e9) > second.started_at
            same = first.node == second.node and first.key.partition("-")[0] == second.key.partition("-")[0]
            if same and overlap and "-" in first.key and "-" in second.key:
                world.breaks(f"two jobs of one name ran at once: {first.key} and {second.key}")
            if first is not second and first.key == second.key:
                world.breaks(f"{first.key} was started twice")
