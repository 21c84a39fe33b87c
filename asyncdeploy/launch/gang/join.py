"""An engine (Ray, Dask) spans all nodes of its launch, or nothing of it stays: looked at before, proven behind."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Sequence

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.launch.gang.drivers import driver_command
from asyncdeploy.launch.gang.undo import fate_of, undo_launch
from asyncdeploy.launch.gang.watch import LOG_BYTES, watch_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.placement import EngineLauncher
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, fold_names
from asyncdeploy.nodes.report import Report
from asyncdeploy.push.push import finish_push
from asyncdeploy.remote.answers import Answer
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import JobStatus
from asyncdeploy.run.jobs import read_log
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import CommandTimeout, DeployError, LaunchFailed, PreflightFailed, ToolMissing
from asyncdeploy.values.events import Noted
from asyncdeploy.values.texts import packaged_text
from asyncdeploy.values.words import last_lines

LOOK_S = 60.0
"""For a Python that starts from a cold network disk and says what it has."""
LATE_S = 30.0
"""Beyond its own time, for the prover's start (it imports the engine) and its word."""
SOURCE = "engine"
"""Where their lines come from, for who watches events: not from a command of people."""
MAX_WORD = 100
"""Of a version."""


@attrs.frozen
class Seen:
    """What a node's environment has for the engine, as it says itself."""

    node: Node
    python: str
    engine: str
    shared_memory: int


async def check_engine(pool: Pool, deployments: Sequence[Deployment], launcher: EngineLauncher) -> str:
    """Look whether the engine stands in every environment, in one version, for one Python; nothing is started.

    Returns:
        The program that will see who has joined it.

    Raises:
        ToolMissing: an environment lacks it.
        PreflightFailed: a version is too old, or versions differ; what is where is said.
        DeployError: a node does not answer.
    """
    at = {each.node: each for each in deployments}
    look = Command(f"python3 - {launcher.package}", stdin=packaged_text("node_side/engines/look.py"), timeout_s=LOOK_S)

    async def see(node: Node) -> Seen:
        remote = pool.at(node)
        await finish_push(remote, at[node].site.path)
        completed = await run_command(remote, at[node].enter(look), check=True, source=SOURCE)
        line = completed.stdout.strip().rpartition(b"\n")[2]
        said = Answer.read(node.name, "what its environment has for the engine", line)
        python, engine = (said[name].text(limit=MAX_WORD) for name in ("python", "engine"))
        return Seen(node, python, engine, said["shared_memory"].whole(-1))

    report = await map_nodes(list(at), see, at_once=CALLS_AT_ONCE)
    for outcome in report.failures:
        if outcome.error is not None:
            raise outcome.error
    for each in report.values:
        _check_one(each, launcher)
    _check_alike(launcher.package, report.values)
    for each in report.values:
        if 0 <= each.shared_memory < launcher.shared_memory_bytes:
            has, wants = each.shared_memory >> 20, launcher.shared_memory_bytes >> 20
            text = f"{has} MiB of shared memory (/dev/shm); {launcher.package} wants {wants} MiB, and is slow with less"
            pool.at(each.node).emit(Noted(node=each.node.name, text=text))
    return launcher.prover


def _check_one(seen: Seen, launcher: EngineLauncher) -> None:
    """Refuse an environment without the engine or with one that is too old."""
    node, package = seen.node.name, launcher.package
    if not seen.engine:
        hint = f"add it to the project: uv add {package}"
        raise ToolMissing(node, f"its environment has no {package}", hint, tool=package)
    numbers = tuple(int(part) for part in re.findall(r"\d+", seen.engine)[: len(launcher.least_version)])
    if numbers < launcher.least_version:
        least = ".".join(map(str, launcher.least_version))
        what = f"{package} {least} or newer was expected, got {seen.engine}"
        raise PreflightFailed(node, what, f"uv add '{package}>={least}'")


def _check_alike(package: str, seen: Sequence[Seen]) -> None:
    for what, said in (("Python", [each.python for each in seen]), (package, [each.engine for each in seen])):
        where: dict[str, list[str]] = {}
        for each, version in zip(seen, said, strict=True):
            where.setdefault(version, []).append(each.node.name)
        if len(where) > 1:
            places = "; ".join(f"{version} on {fold_names(names)}" for version, names in where.items())
            odd = min(where.values(), key=len)[0]
            hint = "an environment that is locked (UvEnv) is the same everywhere"
            raise PreflightFailed(odd, f"all nodes of an engine need one {what}, got {places}", hint)


async def await_joined(pool: Pool, launch: Launch, launcher: EngineLauncher) -> None:
    """Wait until every node is seen in the engine.

    Raises:
        LaunchFailed: a node has failed, or is not in it within ``join_s``. Nothing of the launch stays; on which nodes
            that is not confirmed is said.

    On cancellation nothing of it stays running; the same is said in a note.
    """
    watching = asyncio.create_task(watch_launch(pool, launch))
    proving = asyncio.create_task(_prove(pool, launch, launcher))
    try:
        await asyncio.wait((watching, proving), return_when=asyncio.FIRST_COMPLETED)
        error = _ended(launch, watching.result()) if watching.done() else proving.result()
    except BaseException as broken:
        await _end(watching, proving)
        if left := await undo_launch(pool, launch):
            broken.add_note(f"run {launch.id}: {fate_of(left)}")
        raise
    await _end(watching, proving)
    if error is not None:
        fate = fate_of(await undo_launch(pool, launch))
        raise attrs.evolve(error, message=f"{error.message}; {fate}")


def _ended(launch: Launch, report: Report[JobStatus]) -> LaunchFailed:
    """Return why there is no engine any more."""
    text = f"run {launch.id} ended before all nodes had joined its engine"
    return failure_of(report) or LaunchFailed(launch.nodes[0].name, text, launch_id=launch.id)


async def _end(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await finish(asyncio.wait(tasks), BACK_S)


async def _prove(pool: Pool, launch: Launch, launcher: EngineLauncher) -> LaunchFailed | None:
    """Return None once every node is in the engine, else why that is not so, or is not known."""
    remote, node = pool.at(launch.nodes[0]), launch.nodes[0].name
    program = f'"${{ASYNCDEPLOY_HOME:-$HOME}}"/.asyncdeploy/launches/{launch.id}/tools/{launcher.prover}.py'
    words = shlex.join([f"{launcher.join_s:g}", *launcher.members(launch.placement)])
    command = Command(f"exec python3 {program} {words}", timeout_s=launcher.join_s + LATE_S)
    try:
        completed = await run_command(remote, driver_command(launch, command), source=SOURCE)
    except CommandTimeout:
        return _unknown(launch, f"did not say who has joined the engine within {command.timeout_s:g} s")
    if not completed.ok:
        await asyncio.sleep(BACK_S)  # a rank that has failed is seen meanwhile, and tells more
        return _unknown(launch, "could not be asked who has joined the engine", completed)
    line = completed.stdout.strip().rpartition(b"\n")[2]
    ranks = Answer.read(node, "who has joined the engine", line)["missing"].items()
    missing = [each.whole(0, len(launch.nodes) - 1) for each in ranks]
    return await _not_joined(pool, launch, launcher, missing) if missing else None


def _unknown(launch: Launch, what: str, completed: Completed | None = None) -> LaunchFailed:
    evidence = last_lines(completed.stderr or completed.stdout) if completed is not None else ""
    text = f"run {launch.id} failed: node rank 0 {what}"
    return LaunchFailed(launch.nodes[0].name, text, "", evidence, launch_id=launch.id, node_rank=0)


async def _not_joined(pool: Pool, launch: Launch, launcher: EngineLauncher, missing: Sequence[int]) -> LaunchFailed:
    """Return the error that names who has not joined, with the end of its log."""
    job, rest = launch.jobs[missing[0]], fold_names([launch.nodes[rank].name for rank in missing])
    try:
        evidence = last_lines(await read_log(pool.at(job.node), job, LOG_BYTES))
    except DeployError as error:
        evidence = f"its log could not be read: {error.message}"
    others = f" (as {len(missing)} nodes: {rest})" if len(missing) > 1 else ""
    text = (
        f"run {launch.id} failed: node rank {missing[0]} did not join the engine within {launcher.join_s:g} s{others}"
    )
    return LaunchFailed(job.node.name, text, "", evidence, launch_id=launch.id, node_rank=missing[0])
