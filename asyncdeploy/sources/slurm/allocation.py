"""Nodes of a Slurm job that is made for a block and ended after it, or by the next reap: slurm_allocation."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.arguments import lent_pool
from asyncdeploy.nodes.names import shown
from asyncdeploy.nodes.node import login as address_of
from asyncdeploy.nodes.parse import MAX_NODES, Node, parse_nodes
from asyncdeploy.run.attached import run_command
from asyncdeploy.sources.slurm.job import check_connect
from asyncdeploy.sources.slurm.ledger import Noted, note, take_dead
from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.arguments import check_argument
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import PlainData

MAX_S = 30 * 24 * 3600
END_S = 60.0
"""Slurm's controller answers in seconds; a busy one refuses for a while."""
LOOK_S = 1.0
SETTLE_S = 2.0
"""For a job to be shown by squeue, whose salloc was ended while it asked."""
OURS = ("--no-shell", "--job-name", "--nodes", "--time", "--gpus-per-node")
"""Options of salloc that follow from the arguments; salloc takes a beginning of one, too."""
ALSO = ("--gpus",)
"""A beginning of one of them that is an option of its own."""
_OURS_SHORT = regex(r"-[hHkOQsuvVX]*[JNt].*")
"""The same in one letter, also behind letters that take no value: -QN3."""
_SEEN = regex(r"([0-9]+)\|([A-Z]+)\|([^|]+)\|(?:([0-9]+)-)?(?:([0-9]+):)?([0-9]+):([0-9]+)")


@attrs.frozen
class SlurmAllocation(PlainData):
    """A Slurm job that holds nodes for us.

    Attributes:
        job_id / name: Slurm's number, and the name that is this job's alone.
        nodes: in Slurm's order, reached through the login node; slots are the GPUs that were asked for.
        until: when Slurm ends it, in seconds since 1970.
    """

    job_id: int
    name: str
    nodes: tuple[Node, ...]
    until: float

    def by_srun(self) -> SlurmAllocation:
        """Return it with nodes that srun reaches, on the login node, instead of ssh."""
        return attrs.evolve(self, nodes=tuple(attrs.evolve(node, slurm_job=self.job_id) for node in self.nodes))


@asynccontextmanager
async def slurm_allocation(
    login: Node | str,
    *,
    nodes: int,
    time_s: float,
    gpus_per_node: int | None = None,
    options: Sequence[str] = (),
    connect: Literal["ssh", "srun"] = "ssh",
    pool: Pool | None = None,
) -> AsyncIterator[SlurmAllocation]:
    """Hold nodes of a Slurm cluster for the length of a block: ``salloc`` on the login node, ``scancel`` at the end.

    Args:
        login: the login node, where salloc, squeue and scancel are.
        nodes: how many.
        time_s: for how long at most, in seconds; Slurm counts whole minutes, and ends it then whatever becomes of us.
        gpus_per_node: GPUs on each; None asks for none.
        options: more words for salloc: "--partition=gpu", "--account=me".
        connect: "srun" where ssh to compute nodes is closed: srun on the login node carries everything.
        pool: the connections.

    Returns:
        A context with a SlurmAllocation. It waits as long as the job is pending; ``asyncio.timeout`` bounds that.

    Raises:
        CommandFailed: salloc was refused; Slurm's words are its evidence.
        DeployError: the job cannot be written down or found, or after the block is still there; where the block itself
            raises, the latter is a note on its error.
        ValueError: a number does not fit, or an option follows from the arguments.

    On cancellation the job is ended, pending or not, as far as the login node answers within 5 s; else it is named in a
    note on the error. After our own death a pending job is given up by salloc, a granted one stands until ``time_s``,
    or until ``reap_allocations`` on this machine, where it is written down before salloc is asked.
    """
    _check(nodes, time_s, gpus_per_node, options)
    check_connect("slurm_allocation", connect)
    [gate] = parse_nodes(login)
    async with lent_pool(pool) as lent, _noted(gate) as noted:
        granted = seen = False
        try:
            await run_command(lent.at(gate), _salloc(noted.name, nodes, time_s, gpus_per_node, options), check=True)
            granted = True
            allocation = await _look(lent, gate, noted.name, gpus_per_node)
            seen = True
            yield allocation.by_srun() if connect == "srun" else allocation
        except BaseException as error:
            await _end_with(lent, noted, granted, seen, error)
            raise
        await _end_with(lent, noted, granted, seen, None)


@asynccontextmanager
async def _noted(gate: Node) -> AsyncIterator[Noted]:
    held: list[Noted] = []
    try:
        try:
            await run_in_thread(note, held, f"ad-{secrets.token_hex(6)}", gate)
        except OSError as error:
            what = f"a job that could not be written down is not asked for: {error}"
            raise DeployError(gate.name, what, "XDG_STATE_HOME says where else") from error
        yield held[0]
    finally:
        for each in held:
            each.close()


def _check(nodes: int, time_s: float, gpus: int | None, options: Sequence[str]) -> None:
    kinds = (int, float, int | None, Sequence[str])
    named = (("nodes", nodes), ("time_s", time_s), ("gpus_per_node", gpus), ("options", options))
    for (what, value), kind in zip(named, kinds, strict=True):
        check_argument(f"slurm_allocation {what}", value, kind)
    for what, number, most in (("nodes", nodes, MAX_NODES), ("time_s", time_s, MAX_S), ("gpus_per_node", gpus, 64)):
        if number is not None and not 1 <= number <= most:
            raise ValueError(f"slurm_allocation {what}: a number from 1 to {most} was expected, got {shown(number)}")
    for option in options:
        word = option.partition("=")[0]
        ours = word not in ALSO and any(each.startswith(word) for each in OURS)
        if ours or _OURS_SHORT.fullmatch(option) or not option.startswith("-"):
            raise ValueError(
                f"slurm_allocation options: --option=value was expected that does not follow from nodes, time_s and "
                f"gpus_per_node, got {shown(option)}"
            )


def _salloc(name: str, nodes: int, time_s: float, gpus: int | None, options: Sequence[str]) -> Command:
    asked = [f"--job-name={name}", f"--nodes={nodes}", f"--time={math.ceil(time_s / 60)}"]
    asked += [f"--gpus-per-node={gpus}"] if gpus is not None else []
    return Command.of("salloc", "--no-shell", *asked, *options)


async def _squeue(pool: Pool, gate: Node, name: str) -> str:
    ask = Command.of("squeue", "--noheader", f"--name={name}", "--format=%A|%t|%N|%L")
    return (await run_command(pool.at(gate), attrs.evolve(ask, timeout_s=END_S), check=True)).text.strip()


async def _look(pool: Pool, gate: Node, name: str, gpus: int | None) -> SlurmAllocation:
    text = await _squeue(pool, gate, name)
    found = _SEEN.fullmatch(text)
    if found is None or found[2] not in ("R", "CF"):  # running, or its nodes are being made ready
        raise DeployError(gate.name, f"squeue was expected to show job {name} running, got {shown(text)}")
    days, hours, minutes, seconds = (int(each or 0) for each in found.group(4, 5, 6, 7))
    until = time.time() + ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    nodes = tuple(attrs.evolve(node, slots=gpus) for node in parse_nodes(found[3], jump=gate))
    return SlurmAllocation(int(found[1]), name, nodes, until)


async def _end_with(pool: Pool, noted: Noted, granted: bool, seen: bool, error: BaseException | None) -> None:
    """End the job; what is still there is raised, or noted on the caller's own error."""
    gate, name = noted.login, noted.name
    problem = "nobody knows whether it ended"
    try:
        stood = await finish(_end(pool, gate, name, seen), END_S)
        if stood is False and granted:
            problem = "it was granted, and squeue never showed it under this name"
        elif stood is not None:
            problem = ""
    except asyncio.CancelledError as cancelled:
        error = error if error is not None else cancelled
        raise
    except DeployError as failed:
        problem = str(failed)
    finally:
        if not problem:
            noted.remove()
        said = f"Slurm job {name} may still run: {problem}; `scancel --name={name}` on {gate.name} ends it"
        if problem and error is not None:
            error.add_note(said)
    if problem and error is None:
        raise DeployError(gate.name, said)


async def _end(pool: Pool, gate: Node, name: str, seen: bool) -> bool:
    """Return, when Slurm does not have the job, whether it was ever seen; asked until ``finish`` loses patience.

    One that was never shown may be on its way there, so that its absence counts only after a while.
    """
    cancel = attrs.evolve(Command.of("scancel", f"--name={name}"), timeout_s=END_S)
    settled_at = time.monotonic() + SETTLE_S
    while True:
        await run_command(pool.at(gate), cancel)
        lines = (await _squeue(pool, gate, name)).splitlines()
        seen = seen or bool(lines)
        gone = all(line.split("|")[1:2] == ["CG"] for line in lines)  # CG: its processes are being ended
        if gone and (seen or time.monotonic() >= settled_at):
            return seen
        await asyncio.sleep(LOOK_S)


async def reap_allocations(login: Node | str | None = None, *, pool: Pool | None = None) -> tuple[str, ...]:
    """End the Slurm jobs that slurm_allocation made on this machine for processes that have died.

    Only jobs that are written down here are ended, by their names, which nothing else has; those of living processes
    are left alone.

    Args:
        login: the login node whose jobs are meant; None is every one that is written down, reached as it was then.
        pool: the connections.

    Returns:
        The names of the jobs that still stood, and are proven gone.

    Raises:
        DeployError: a job may still run; the others were ended before this is raised.
        ValueError: the login node is none.

    On cancellation what was not ended yet is left for the next one.
    """
    gates = parse_nodes(login) if login is not None else ()
    held: list[Noted] = []
    ended: list[str] = []
    problems: list[DeployError] = []
    try:
        await run_in_thread(take_dead, held)
        async with lent_pool(pool) as lent:
            for each in held:
                if gates and address_of(each.login) != address_of(gates[0]):
                    continue
                try:
                    ended += await _reap(lent, gates[0] if gates else each.login, each)
                except DeployError as error:
                    error.add_note(f"Slurm job {each.name} may still run; the next reap_allocations tries again")
                    problems.append(error)
    finally:
        for each in held:
            each.close()
    if problems:
        raise problems[0]
    return tuple(ended)


async def _reap(pool: Pool, gate: Node, noted: Noted) -> list[str]:
    """End a dead process's job; its name, if there was one."""
    try:
        async with asyncio.timeout(END_S) as limit:
            stood = bool(await _squeue(pool, gate, noted.name))
            stood = await _end(pool, gate, noted.name, stood)
    except TimeoutError:
        if not limit.expired():
            raise
        what = f"Slurm job {noted.name} may still run: it was asked to end for {END_S:g} s"
        raise DeployError(gate.name, what, f"`scancel --name={noted.name}` there ends it") from None
    noted.remove()
    return [noted.name] if stood else []
