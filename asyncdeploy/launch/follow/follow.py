"""What the ranks of a launch print, as it comes, while somebody watches over them: follow_launch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.follow.hangs import watch_silence
from asyncdeploy.launch.follow.log_fold import LineFolder
from asyncdeploy.launch.follow.log_merge import Merger
from asyncdeploy.launch.gang.attempts import next_attempt
from asyncdeploy.launch.gang.lease import watching
from asyncdeploy.launch.gang.sight import AWAY_S, FIRST_PAUSE_S, LAST_PAUSE_S
from asyncdeploy.launch.gang.watch import watch_launch
from asyncdeploy.launch.launch import Launch, LaunchLine, LineRanks
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.tasks.turns import Turns
from asyncdeploy.values.errors import DeployError, LaunchFailed
from asyncdeploy.values.events import Noted

_Given = tuple[LaunchLine | Launch, dict[int, int]]
"""A line, and where the logs of those who printed it are behind it; or the next attempt."""


class LaunchFollower:
    """The lines of a launch: ``async with follow_launch(launch) as lines: async for line in lines: ...``

    Attributes:
        launch: the launch; where it is restarted, the attempt whose lines are given.
        report: what became of every node rank, once the lines have ended; None before.
        offsets: bytes of each node rank's log up to the last line that was given: whoever begins there, also elsewhere
            and later, loses and repeats nothing.
        unread: node ranks whose log could not be read to its end, and why.

    Lines that were printed before come in the order of time (to a quarter of a second, by clocks whose offsets were
    measured at the launch), new ones as they arrive. The launch is watched all the while, however slow they are read:
    when a rank fails, the others are stopped. Leaving the block early leaves the launch as it is.
    """

    def __init__(
        self,
        pool: Pool,
        launch: Launch,
        *,
        offsets: Sequence[int] = (),
        fold_s: float | None = None,
        silent_after_s: float | None = None,
        away_s: float = AWAY_S,
    ) -> None:
        if offsets and (len(offsets) != len(launch.jobs) or min(offsets) < 0):
            what = f"one of 0 or more for each of {len(launch.jobs)} nodes was expected"
            raise ValueError(f"follow_launch offsets: {what}, got {len(offsets)}, the smallest {min(offsets)}")
        self.launch = launch.current
        self.report: Report[JobStatus] | None = None
        self.unread: dict[int, DeployError] = {}
        self._offsets = list(offsets) or [0] * len(launch.jobs)
        self._fold_s = fold_s
        self._silent_after_s = silent_after_s
        self._away_s = away_s
        self._judged: Launch | None = None
        self._folder = self._new_folder(self.launch)
        self._merger = _merger(self.launch)
        self._following: deque[tuple[Launch, Merger]] = deque()
        self._over = False
        self._turn = anyio.Event()
        self._pool = pool
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None
        self._turns = Turns()

    def _new_folder(self, launch: Launch) -> LineFolder | None:
        return None if self._fold_s is None else LineFolder(range(len(launch.jobs)), self._fold_s)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where to go on from, by node rank."""
        return tuple(self._offsets)

    @property
    def failure(self) -> LaunchFailed | None:
        """The root cause, where the launch has failed."""
        return failure_of(self.report) if self.report is not None else None

    async def __aenter__(self) -> Self:
        readers = self._start_readers(self.launch, self._merger, self._offsets)
        self._watch = asyncio.create_task(self._run(self.launch, readers), name=f"watch {self.launch.id}")
        if self._silent_after_s is not None:
            silence = watch_silence(self._pool, self.launch, self._silent_after_s)
            self._tasks.append(asyncio.create_task(silence, name=f"silence of {self.launch.id}"))
        return self

    def _start_readers(self, launch: Launch, merger: Merger, offsets: Sequence[int]) -> list[asyncio.Task[None]]:
        readers = [
            asyncio.create_task(self._read(launch, merger, rank, offsets[rank]), name=f"follow {job.id}")
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
            await finish(asyncio.wait(tasks), BACK_S)  # each is back by then
        if self._watch is not None and not self._watch.cancelled() and (problem := self._watch.exception()) is not None:
            raise problem

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LaunchLine:
        if self._turns.over():
            await self._turns.next()
        while (given := await self._receive()) is not None:
            line, ends = given
            if isinstance(line, Launch):
                self.launch, self._offsets, self.unread = line, [0] * len(line.jobs), {}
                continue
            for rank, end in ends.items():
                self._offsets[rank] = end
            return line
        raise StopAsyncIteration

    async def _receive(self) -> _Given | None:
        """Return the next line, or attempt; None at the end of all."""
        while True:
            folder, merger, now = self._folder, self._merger, anyio.current_time()
            if folder is not None and (ready := folder.take(now, final=merger.over)):
                return ready
            if (taken := merger.take(now)) is not None:
                line, rank, end = taken
                if folder is None and line is not None:
                    return line, {rank: end}
                if folder is not None and line is not None:
                    folder.add(line, end, now)
                elif folder is not None:
                    folder.ended(rank)
                continue
            if merger.over and self._following:
                launch, self._merger = self._following.popleft()
                self._folder = self._new_folder(launch)
                return launch, {}
            if merger.over and self._over:
                return None
            await self._news(min(merger.due(), folder.due() if folder is not None else merger.due()))

    async def _news(self, deadline: float) -> None:
        """Wait for a line, for what follows when all logs have ended, or until the deadline."""
        with anyio.CancelScope(deadline=deadline):
            await (self._turn.wait() if self._merger.over else self._merger.news())

    async def _run(self, launch: Launch, readers: Sequence[asyncio.Task[None]]) -> None:
        try:
            while True:
                async with watching(self._pool, launch):
                    report = await watch_launch(self._pool, launch, away_s=self._away_s)
                    self._judged = launch
                    for reader, outcome in zip(readers, report, strict=True):
                        if outcome.value is None:  # its node does not answer; the other logs end where their jobs ended
                            reader.cancel()
                    await asyncio.wait(readers)
                    following = None if report.ok else await next_attempt(self._pool, launch, report)
                if following is None:
                    self.report = report
                    return
                merger = _merger(following)
                self._following.append((following, merger))
                self._turn.set()
                self._turn = anyio.Event()
                launch, readers = following, self._start_readers(following, merger, [0] * len(following.jobs))
        finally:
            self._end()

    def _end(self) -> None:
        """There is nothing behind the logs that are read now."""
        self._over = True
        self._turn.set()

    async def _read(self, launch: Launch, merger: Merger, rank: int, offset: int) -> None:
        job, late_s = launch.jobs[rank], launch.clock_offsets_s[rank]
        remote, at, ranks = self._pool.at(job.node), 0.0, LineRanks(launch.placement, rank)
        pause = FIRST_PAUSE_S
        try:
            async with follow_job(remote, job, offset=offset) as lines:
                while True:
                    try:
                        await lines.read_on()
                        if not lines.behind:
                            merger.caught_up(rank)
                        async for text in lines:
                            at = max(at, time.time() if lines.printed_at is None else lines.printed_at - late_s)
                            line = LaunchLine(rank, job.node.name, text, "log", at, rank=ranks.rank_of(text))
                            await merger.put(rank, line, lines.offset)
                            if not lines.behind:
                                merger.caught_up(rank)
                            pause = FIRST_PAUSE_S
                        return
                    except DeployError as error:
                        if self._judged is launch:  # the watcher says what became of the rank; here only its lines end
                            self.unread[rank] = error
                            text = f"its log cannot be followed any more: {error.message}"
                            remote.emit(Noted(node=job.node.name, text=text))
                            return
                    await anyio.sleep(pause)
                    pause = min(2 * pause, LAST_PAUSE_S)
        finally:
            merger.ended(rank)


def _merger(launch: Launch) -> Merger:
    return Merger(range(len(launch.jobs)), anyio.current_time())
