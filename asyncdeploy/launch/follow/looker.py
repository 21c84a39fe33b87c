"""Who only looks: the lines of a launch without watching over it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncdeploy.launch.follow.follow import LaunchFollower
from asyncdeploy.launch.follow.log_merge import Merger
from asyncdeploy.launch.launch import Launch, LaunchLine, LineRanks
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Noted


class LaunchLooker(LaunchFollower):
    """The lines of a launch as they come; nobody is stopped, or started again, because somebody looks.

    They end when all ranks have ended; there is no ``report``.
    """

    async def _run(self, launch: Launch, readers: Sequence[asyncio.Task[None]]) -> None:
        try:
            await asyncio.wait(readers)
        finally:
            self._end()


class LaunchReader(LaunchLooker):
    """The lines of a launch that were printed until now; of a line that goes on, nothing."""

    async def _read(self, launch: Launch, merger: Merger, rank: int, offset: int) -> None:
        job, late_s = launch.jobs[rank], launch.clock_offsets_s[rank]
        remote, at, ranks = self._pool.at(job.node), 0.0, LineRanks(launch.placement, rank)
        try:
            async with follow_job(remote, job, offset=offset) as lines:
                await lines.read_on()
                until = lines.size  # a job that prints faster than we read is not followed for ever
                while lines.offset < until:
                    if not lines.behind:
                        await lines.read_on()  # of one that has ended: its last line, which no line end closes
                        if not lines.behind:
                            return
                    text = await anext(lines)
                    at = max(at, at if lines.printed_at is None else lines.printed_at - late_s)
                    line = LaunchLine(rank, job.node.name, text, "log", at, rank=ranks.rank_of(text))
                    await merger.put(rank, line, lines.offset)
        except DeployError as error:
            self.unread[rank] = error
            remote.emit(Noted(node=job.node.name, text=f"its log cannot be read: {error.message}"))
        finally:
            merger.ended(rank)
