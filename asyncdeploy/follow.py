"""What the ranks of a launch print, as it comes, while somebody watches over them: follow_launch."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio

from asyncdeploy.attempts import next_attempt
from asyncdeploy.causes import failure_of
from asyncdeploy.errors import DeployError, LaunchFailed
from asyncdeploy.events import Noted
from asyncdeploy.fold import LineFolder
from asyncdeploy.hangs import watch_silence
from asyncdeploy.job import Job, JobStatus
from asyncdeploy.jobs import follow_job
from asyncdeploy.launch_data import Launch, LaunchLine
from asyncdeploy.pool import Pool
from asyncdeploy.report import Report
from asyncdeploy.watch import watch_launch

WAITING_LINES = 1000
"""Lines kept for a slow reader; then the nodes have to wait, which costs nothing: their logs are files."""


_Read = tuple[LaunchLine | Launch | None, int, int]
"""A line, whose, and the byte of its log at which it ends; without a line its log has ended; or the next attempt."""
_Given = tuple[LaunchLine | Launch, dict[int, int]]
"""A line, and where the logs of those who printed it are behind it; or the next attempt."""


class LaunchFollower:
    """The lines of a launch: ``async with follow_launch(launch) as lines: async for line in lines: ...``

    Attributes:
        launch: the launch; where it is restarted, the attempt whose lines are given.
        report: what became of every node rank, once the lines have ended; None before.
        offsets: bytes of each node rank's log up to the last line that was given: whoever begins there, also elsewhere
            and later, loses and repeats nothing.

    Lines come in the order in which they arrive. The launch is watched all the while, however slow they are read: when
    a rank fails, the others are stopped. Leaving the block early leaves the launch as it is.
    """

    def __init__(
        self,
        pool: Pool,
        launch: Launch,
        *,
        offsets: Sequence[int] = (),
        fold_s: float | None = None,
        silent_after_s: float | None = None,
    ) -> None:
        if offsets and (len(offsets) != len(launch.jobs) or min(offsets) < 0):
            raise ValueError(f"offsets: one of 0 or more for each of {len(launch.jobs)} nodes was expected")
        self.launch = launch.current
        self.report: Report[JobStatus] | None = None
        self._offsets = list(offsets) or [0] * len(launch.jobs)
        self._fold_s = fold_s
        self._silent_after_s = silent_after_s
        self._folder = self._new_folder()
        self._ready: deque[_Given] = deque()
        self._ended = False
        self._pool = pool
        # The lines end when all senders are closed: one for each node's reader and the watcher's own.
        self._sender, self._lines = anyio.create_memory_object_stream[_Read](WAITING_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None

    def _new_folder(self) -> LineFolder | None:
        return None if self._fold_s is None else LineFolder(range(len(self.launch.jobs)), self._fold_s)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where to go on from, by node rank."""
        return tuple(self._offsets)

    @property
    def failure(self) -> LaunchFailed | None:
        """The root cause, where the launch has failed."""
        return failure_of(self.report) if self.report is not None else None

    async def __aenter__(self) -> Self:
        readers = self._start_readers(self.launch, self._offsets)
        self._watch = asyncio.create_task(self._run(self.launch, readers), name=f"watch {self.launch.id}")
        if self._silent_after_s is not None:
            silence = watch_silence(self._pool, self.launch, self._silent_after_s)
            self._tasks.append(asyncio.create_task(silence, name=f"silence of {self.launch.id}"))
        return self

    def _start_readers(self, launch: Launch, offsets: Sequence[int]) -> list[asyncio.Task[None]]:
        readers = [
            asyncio.create_task(self._read(rank, job, offsets[rank]), name=f"follow {job.id}")
            for rank, job in enumerate(launch.jobs)
        ]
        self._tasks += readers
        return readers

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
        while (given := await self._receive()) is not None:
            line, ends = given
            if isinstance(line, Launch):
                self.launch, self._offsets = line, [0] * len(line.jobs)
                continue
            for rank, end in ends.items():
                self._offsets[rank] = end
            return line
        raise StopAsyncIteration

    async def _receive(self) -> _Given | None:
        """Return the next line, or attempt; None at the end of all."""
        while True:
            folder = self._folder
            if self._ready:
                return self._ready.popleft()
            now = anyio.current_time()
            if folder is not None and (ready := folder.take(now, final=self._ended)):
                return ready
            if self._ended:
                return None
            with anyio.CancelScope(deadline=folder.due() if folder is not None else math.inf):
                try:
                    line, rank, end = await self._lines.receive()
                except anyio.EndOfStream:
                    self._ended = True
                    continue
                if isinstance(line, Launch):
                    while folder is not None and (last := folder.take(anyio.current_time(), final=True)):
                        self._ready.append(last)
                    self._ready.append((line, {}))
                    self._folder = self._new_folder()
                    continue
                if folder is None and line is not None:
                    return line, {rank: end}
                if folder is not None and line is not None:
                    folder.add(line, end, anyio.current_time())
                elif folder is not None:
                    folder.ended(rank)

    async def _run(self, launch: Launch, readers: Sequence[asyncio.Task[None]]) -> None:
        try:
            while True:
                report = await watch_launch(self._pool, launch)
                for reader, outcome in zip(readers, report, strict=True):
                    if outcome.value is None:  # its node does not answer; the other logs end where their jobs ended
                        reader.cancel()
                await asyncio.wait(readers)
                following = None if report.ok else await next_attempt(self._pool, launch, report)
                if following is None:
                    self.report = report
                    return
                await self._sender.send((following, 0, 0))
                launch, readers = following, self._start_readers(following, [0] * len(following.jobs))
        finally:
            self._sender.close()

    async def _read(self, rank: int, job: Job, offset: int) -> None:
        remote = self._pool.at(job.node)
        with self._sender.clone() as sender:
            try:
                async with follow_job(remote, job, offset=offset) as lines:
                    async for text in lines:
                        line = LaunchLine(rank, job.node.name, text, "log", time.time())
                        await sender.send((line, rank, lines.offset))
            except DeployError as error:  # the watcher says what became of the rank; here only its lines end
                remote.emit(Noted(node=job.node.name, text=f"its log cannot be followed any more: {error.message}"))
            await sender.send((None, rank, 0))
