"""Jobs on many nodes as one thing: they are started, asked, stopped and followed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, by_node, start_in_project
from asyncdeploy.fleet.arguments import Asked, commands_of, lent_pool
from asyncdeploy.nodes.node import Node
from asyncdeploy.nodes.parallel import AT_ONCE, CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.report import Outcome, Report, judge
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job, JobStatus, check_job_name
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.run.jobs import job_status, stop_job, wait_job
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import Cancelled, DeployError, JobFailed, WorkFailed
from asyncdeploy.values.events import Noted
from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.words import describe_survivors, shown_line

WAITING_LINES = 1000
"""Of all nodes together, read and not taken yet: who reads slowly holds the nodes back."""


@checked
async def start_all(
    deployments: Iterable[Deployment],
    command: Asked,
    *,
    name: str,
    at_once: int = AT_ONCE,
    at_most_s: float | None = None,
    pool: Pool | None = None,
) -> JobSet:
    """Start a detached job in each deployment's project folder.

    Args:
        deployments: what stands on the nodes.
        command: a Command, a shell line, or a callable that gives one for each node.
        name: what people call the jobs.
        at_once: how many are started at a time.
        at_most_s: a node's own time, from when its work begins; one that takes longer is stopped there, and unknown.
        pool: the connections.

    Returns:
        What became of each start, a Report, and the jobs as one thing: ``await jobs.status()``, ``jobs.wait()``,
        ``jobs.stop()``, ``jobs.follow()``.

    Raises:
        ValueError: no job can be called so, or two deployments are of one node.

    On cancellation nothing that was not reported stays running.
    """
    check_job_name(name)
    ready = by_node(deployments)
    commands = commands_of(tuple(ready), command)

    async def work(node: Node) -> Job:
        return await start_in_project(lent, ready[node], commands[node], name=name)

    async with lent_pool(pool) as lent:
        report = await map_nodes(tuple(ready), work, at_once=at_once, at_most_s=at_most_s, judged=True)
    return JobSet(report.outcomes)


@attrs.frozen
class JobLine(PlainData):
    """One line that a job printed, as it came and without its line end; bytes that are no UTF-8 are replaced."""

    node: str
    text: str

    def shown(self, *, colours: bool = False) -> str:
        """Return the text as it may go to a terminal: with its colours or without, everything else in it harmless."""
        return shown_line(self.text, colours=colours)


@attrs.frozen(repr=False)
class JobSet(Report[Job]):
    """Jobs that belong together, one a node: the Report of their starts, and what is asked of all of them at once.

    Every call returns a Report of all nodes; one whose job was not started keeps the outcome of that. ``values`` are
    the jobs. With ``pool=None`` a call opens a pool for itself.
    """

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> Self:
        """Return jobs as a set, as ``list_jobs`` and ``find_job`` return them on any machine.

        Raises:
            ValueError: two are of one node.
        """
        found: dict[Node, Job] = {}
        for job in jobs:
            if job.node in found:
                raise ValueError(f"JobSet of: one job a node was expected, got two of {job.node.name}")
            found[job.node] = job
        return cls(tuple(Outcome(node, "ok", job) for node, job in found.items()))

    @checked
    async def status(
        self, *, at_once: int = CALLS_AT_ONCE, at_most_s: float | None = None, pool: Pool | None = None
    ) -> Report[JobStatus]:
        """Return what each job is at this moment; an outcome is ok where the node said it, else unknown.

        Args:
            at_once: how many nodes are asked at a time.
            at_most_s: a node's own time; one that takes longer is unknown.
            pool: the connections.
        """
        return await self._each(job_status, at_once, at_most_s, pool)

    @checked
    async def wait(self, *, timeout_s: float | None = None, pool: Pool | None = None) -> Report[JobStatus]:
        """Wait until every job has ended; an outcome is ok where exit status 0 was recorded.

        Args:
            timeout_s: after so many seconds the states as they are then are returned; what runs on is unknown.
            pool: the connections.

        One that fails does not end the others. On cancellation the jobs are untouched.
        """

        async def work(remote: Remote, job: Job) -> JobStatus:
            return await wait_job(remote, job, timeout_s=timeout_s)

        return (await self._each(work, max(1, len(self)), None, pool)).judged()

    @checked
    async def stop(
        self, *, grace_s: float = 5.0, at_most_s: float | None = None, pool: Pool | None = None
    ) -> Report[JobStatus]:
        """End every job and all that it started: TERM, after the grace KILL.

        Args:
            grace_s: seconds between TERM and KILL.
            at_most_s: a node's own time; one that takes longer is unknown.
            pool: the connections.

        Returns:
            "cancelled" where the job was running, else what it had become before; failed where something survived.
        """

        async def work(remote: Remote, job: Job) -> JobStatus:
            return await stop_job(remote, job, grace_s=grace_s)

        report = await self._each(work, max(1, len(self)), at_most_s, pool)
        return Report(tuple(_stopped(outcome) for outcome in report))

    @asynccontextmanager
    async def follow(self, *, offset: int = 0, pool: Pool | None = None) -> AsyncIterator[JobsFollower]:
        """Give the lines of all jobs as they come: ``async with jobs.follow() as lines: async for line in lines: ...``

        Args:
            offset: byte of each log to begin at; negative counts from its end.
            pool: the connections.

        The lines end when every job has ended; ``lines.report`` then says how. On cancellation, and when the block is
        left early, the jobs are untouched.
        """
        async with lent_pool(pool) as lent, JobsFollower(lent, self, offset) as lines:
            yield lines

    async def _each(
        self,
        ask: Callable[[Remote, Job], Awaitable[JobStatus]],
        at_once: int,
        at_most_s: float | None,
        pool: Pool | None,
    ) -> Report[JobStatus]:
        jobs = _jobs_of(self)
        if not jobs:
            return _completed(self, {})
        async with lent_pool(pool) as lent:

            async def work(node: Node) -> JobStatus:
                return await ask(lent.at(node), jobs[node])

            report = await map_nodes(tuple(jobs), work, at_once=at_once, at_most_s=at_most_s)
        # A question that failed says nothing about the job.
        told = [each if each.value is not None else attrs.evolve(each, state="unknown") for each in report]
        return _completed(self, {outcome.node: outcome for outcome in told})


class JobsFollower:
    """The lines of a set's jobs, as they come; those of one node keep their order.

    Attributes:
        report: what became of each job, once the lines have ended; None before.
    """

    def __init__(self, pool: Pool, jobs: JobSet, offset: int) -> None:
        self.report: Report[JobStatus] | None = None
        self._pool = pool
        self._jobs = jobs
        self._offset = offset
        self._lines: asyncio.Queue[JobLine | None] = asyncio.Queue(WAITING_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: dict[Node, Outcome[JobStatus]] = {}
        self._open = 0  # logs whose end was not given yet

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._read(job), name=f"follow {job.id}") for job in _jobs_of(self._jobs).values()
        ]
        self._open = len(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await finish(asyncio.wait(self._tasks), BACK_S)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobLine:
        while self._open:
            line = await self._lines.get()
            if line is not None:
                return line
            self._open -= 1
        self.report = _completed(self._jobs, self._ended).judged()
        raise StopAsyncIteration

    async def _read(self, job: Job) -> None:
        remote = self._pool.at(job.node)
        try:
            async with follow_job(remote, job, offset=self._offset) as lines:
                async for text in lines:
                    await self._lines.put(JobLine(job.node.name, text))
            outcome = Outcome(job.node, "ok", await job_status(remote, job))
        except DeployError as error:  # asked for half a minute: the job may run on, and nobody knows
            outcome = Outcome(job.node, "unknown", None, error)
            text = f"the log of job {job.id} cannot be followed any more: {error.message}"
            remote.emit(Noted(node=job.node.name, text=text))
        except Exception as cause:  # noqa: BLE001 - a slip of ours is this node's failure, and no hang of all
            slip = WorkFailed(job.node.name, f"following its log raised {type(cause).__name__}: {cause}")
            slip.__cause__ = cause
            outcome = Outcome(job.node, "unknown", None, slip)
        self._ended[job.node] = outcome
        await self._lines.put(None)


def _jobs_of(jobs: Report[Job]) -> dict[Node, Job]:
    return {outcome.node: outcome.value for outcome in jobs if outcome.value is not None}


def _completed(jobs: Report[Job], found: dict[Node, Outcome[JobStatus]]) -> Report[JobStatus]:
    """Return what was found, and of jobs that were not started why not."""
    rest = {seen.node: Outcome[JobStatus](seen.node, seen.state, None, seen.error) for seen in jobs}
    return Report(tuple(found.get(node) or outcome for node, outcome in rest.items()))


def _stopped(outcome: Outcome[JobStatus]) -> Outcome[JobStatus]:
    status = outcome.value
    if status is None:
        return outcome
    if status.survivors:
        what = f"job {status.job.id}: {describe_survivors(status.survivors)}"
        return attrs.evolve(outcome, state="failed", error=JobFailed(outcome.node.name, what, job_id=status.job.id))
    if status.stopped and status.ended and not status.timed_out:
        why = f"job {status.job.id} was stopped, it {status.how}"
        return attrs.evolve(outcome, state="cancelled", error=Cancelled(outcome.node.name, why))
    return judge(outcome)
