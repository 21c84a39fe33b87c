"""What the ranks of a launch print, as it comes, while somebody watches over them: follow_launch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio

from asyncdeploy.causes import failure_of
from asyncdeploy.errors import DeployError, LaunchFailed
from asyncdeploy.events import Noted
from asyncdeploy.job import Job, JobStatus
from asyncdeploy.jobs import follow_job
from asyncdeploy.launch_data import Launch, LaunchLine
from asyncdeploy.pool import Pool
from asyncdeploy.report import Report
from asyncdeploy.watch import watch_launch

WAITING_LINES = 1000
"""Lines kept for a slow reader; then the nodes have to wait, which costs nothing: their logs are files."""


class LaunchFollower:
    """The lines of a launch: ``async with follow_launch(launch) as lines: async for line in lines: ...``

    Attributes:
        launch: the launch.
        report: what became of every node rank, once the lines have ended; None before.

    The launch is watched all the while, however slow the lines are read: when a rank fails, the others are stopped.
    Leaving the block early leaves the launch as it is.
    """

    def __init__(self, pool: Pool, launch: Launch) -> None:
        self.launch = launch
        self.report: Report[JobStatus] | None = None
        self._pool = pool
        # The lines end when all senders are closed: one for each node's reader and the watcher's own.
        self._sender, self._lines = anyio.create_memory_object_stream[LaunchLine](WAITING_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def failure(self) -> LaunchFailed | None:
        """The root cause, where the launch has failed."""
        return failure_of(self.report) if self.report is not None else None

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._read(rank, job), name=f"follow {job.id}")
            for rank, job in enumerate(self.launch.jobs)
        ]
        self._watch = asyncio.create_task(self._run(tuple(self._tasks)), name=f"watch {self.launch.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks, *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # each is back within 5 s of its cancellation
        self._sender.close()
        self._lines.close()
        if self._watch is not None and not self._watch.cancelled() and (problem := self._watch.exception()) is not None:
            raise problem

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LaunchLine:
        try:
            return await self._lines.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def _run(self, readers: Sequence[asyncio.Task[None]]) -> None:
        try:
            self.report = await watch_launch(self._pool, self.launch)
            for reader, outcome in zip(readers, self.report, strict=True):
                if outcome.value is None:  # its node does not answer; the other logs end where their jobs ended
                    reader.cancel()
            await asyncio.wait(readers)
        finally:
            self._sender.close()

    async def _read(self, rank: int, job: Job) -> None:
        remote = self._pool.at(job.node)
        with self._sender.clone() as sender:
            try:
                async with follow_job(remote, job) as lines:
                    async for text in lines:
                        await sender.send(LaunchLine(rank, job.node.name, text, "log", time.time()))
            except DeployError as error:  # the watcher says what became of the rank; here only its lines end
                remote.emit(Noted(node=job.node.name, text=f"its log cannot be followed any more: {error.message}"))
