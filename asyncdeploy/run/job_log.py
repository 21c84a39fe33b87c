"""The lines of a job's log, as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job
from asyncdeploy.run.job_answers import marks_of
from asyncdeploy.run.job_ask import ASK_S, QUESTION_S, ask_job_bytes, read_job_bytes
from asyncdeploy.run.streams import LineCutter
from asyncdeploy.tasks.turns import Turns
from asyncdeploy.values.arguments import checked


class JobLog:
    """The lines of a job's log, as they come.

    Attributes:
        offset: bytes of the log up to the end of the last line that was given; ``follow_job`` can go on from there.
        printed_at: when that line was printed at the latest, seconds since 1970 by the node's clock, to a quarter of a
            second; None where nobody wrote that down (only launches do), or has not yet.
        state: what the job was when its log ended, None before.
    """

    def __init__(self, remote: Remote, job: Job, offset: int) -> None:
        self.offset = offset
        self.printed_at: float | None = None
        self.state: str | None = None
        self._remote = remote
        self._job = job
        self._cutter = LineCutter()
        self._lines: list[tuple[str, int]] = []
        self._marks: deque[tuple[int, float]] = deque()
        self._read_to = offset
        self._size = offset
        self._turns = Turns()

    def __aiter__(self) -> JobLog:
        return self

    @property
    def behind(self) -> bool:
        """Whether lines of it are known to be there that were not given yet."""
        return bool(self._lines) or self._read_to < self._size

    @property
    def size(self) -> int:
        """Bytes of the log when it was read last."""
        return self._size

    async def __anext__(self) -> str:
        while not self._lines:
            if self.state is not None:
                raise StopAsyncIteration
            await self.read_on(ASK_S)
        if self._turns.over():
            await self._turns.next()
        line, size = self._lines.pop()
        self.offset += size
        while self._marks and self._marks[0][0] < self.offset:
            self._marks.popleft()
        self.printed_at = self._marks[0][1] if self._marks else None
        return line

    async def read_on(self, wait_s: float = 0.0) -> None:
        """Read on, waiting up to so many seconds for something to read."""
        request = {"op": "read", "id": self._job.id, "offset": self._read_to, "wait_s": wait_s, "times": True}
        data, answer = await ask_job_bytes(self._remote, request, within_s=wait_s + QUESTION_S)
        if answer["offset"].whole() < self._read_to:  # the log was emptied, and has a new beginning
            self._cutter, self.offset, self._read_to = LineCutter(), 0, 0
            self._marks.clear()
        self._read_to += len(data)
        self._size = answer["size"].whole()
        self._marks += marks_of(answer["times"])
        ended = not data and answer["state"].text() not in ("starting", "running", "orphaned")
        self._lines = self._cutter.cut(data, final=ended)[::-1] + self._lines
        if ended:
            self.state = answer["state"].text()


@checked
@asynccontextmanager
async def follow_job(remote: Remote, job: Job, *, offset: int = 0) -> AsyncIterator[JobLog]:
    """Follow a job's log: an iterator of whole lines that ends when the job ended and all was read.

    Args:
        remote: the node.
        job: the job.
        offset: byte of the log to begin at; negative counts from its end.

    A connection that breaks is made again: no line is lost or given twice. On cancellation the job is untouched.
    """
    if offset < 0:
        _, answer = await read_job_bytes(remote, job, offset, 0)
        offset = answer["offset"].whole()
    yield JobLog(remote, job, offset)
