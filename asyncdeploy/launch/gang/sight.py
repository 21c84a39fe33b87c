"""See the ranks of a launch to their ends, from here: that we cannot see a node says nothing about its rank.

A laptop that sleeps, a network that breaks between us and the nodes, an agent whose key is gone: the ranks train on.
Their supervisors watch over each other, and end all of them when one is lost; so a node that does not answer us is
asked on, and nothing is stopped for it.
"""

from __future__ import annotations

import time

import anyio
import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.case import RankEnd
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job, JobStatus
from asyncdeploy.run.jobs import wait_job
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Noted

AWAY_S = 600.0
"""For so long none of the ranks that run may be heard of: a break of an hour costs a report, and no rank."""
ASK_S = 20.0
"""For so long a node holds our question open; then it is asked anew, so that a break is noticed as soon."""
NOTE_S = 15.0
"""A node that does not answer for less is not worth a word: sshd restarts, lines break."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 15.0
"""Between two questions to a node that does not answer."""


@attrs.define(eq=False)
class Sight:
    """What is seen of a launch, until the first rank has failed or all have ended.

    Attributes:
        launch: the launch.
        away_s: how long none of its ranks that run may be heard of.
        ends: what became of them, by node rank; only those that have ended, or that nobody can see any more.
        first: the node rank that was seen to fail first, None while none was.
    """

    launch: Launch
    away_s: float
    ends: dict[int, RankEnd] = attrs.field(factory=dict)
    first: int | None = None
    _heard_at: float = attrs.field(factory=time.monotonic)

    async def look(self, pool: Pool) -> None:
        """Wait until a rank is seen to fail, or all have ended, or nothing was heard for too long."""
        async with anyio.create_task_group() as group:

            async def see(rank: int, job: Job) -> None:
                self.ends[rank] = end = await self._end_of(pool.at(job.node), job)
                if end.status is not None and not end.ok and self.first is None:
                    self.first = rank
                    group.cancel_scope.cancel()

            for rank, job in enumerate(self.launch.jobs):
                group.start_soon(see, rank, job)

    async def _end_of(self, remote: Remote, job: Job) -> RankEnd:
        """Return how a rank ended; an error of one node must not cancel the wait for the others."""
        pause, blind_since, noted = FIRST_PAUSE_S, None, False
        while True:
            try:
                status = await self._ask(remote, job)
            except DeployError as error:
                now = time.monotonic()
                blind_since = now if blind_since is None else blind_since
                if now - self._heard_at > self.away_s:
                    return RankEnd(error=error, known_at=time.time())
                if not noted and now - blind_since >= NOTE_S:
                    noted = True
                    text = f"it does not answer us and is asked on, nothing is stopped for that: {error.message}"
                    remote.emit(Noted(node=remote.node.name, text=text))
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_PAUSE_S)
                continue
            self._heard_at = time.monotonic()
            if noted:
                remote.emit(Noted(node=remote.node.name, text="it answers again"))
            if status.state not in ("starting", "running"):
                return RankEnd(status, known_at=time.time())
            pause, blind_since, noted = FIRST_PAUSE_S, None, False

    async def _ask(self, remote: Remote, job: Job) -> JobStatus:
        # Without orphans: a rank whose supervisor is gone (fault F5) lives on, and nobody will know how it ends. It was
        # waited for once, and of 200 launches whose processes were killed at random the 93rd stood still.
        return await wait_job(remote, job, timeout_s=ASK_S, orphans=False)
