"""All that a judgement of a launch looks at: RankEnd, Case. Data; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.records import RankFailure
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import DeployError


@attrs.frozen
class RankEnd:
    """What is known of one node rank when the launch is over.

    Attributes:
        status: what its job's folder says, None where the node did not tell.
        error: why there is no status.
        log: the end of its log.
        known_at: when we learned of its end, seconds since 1970, our clock.
        evidence: what rank_evidence.py found on the node, {} where nobody could ask.
    """

    status: JobStatus | None = None
    error: DeployError | None = None
    log: str = ""
    known_at: float = 0.0
    evidence: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """True only if exit status 0 was recorded."""
        return self.status is not None and self.status.ok

    def failure(self) -> DeployError:
        """Return what is known of one that is not ok, as an error."""
        error = self.error or (self.status.failure() if self.status is not None else None)
        assert error is not None, "an end has a status or the reason why there is none, and one that is ok is not asked"
        return error


@attrs.frozen
class Case:
    """One launch that is over, as far as it is judged.

    Attributes:
        launch: the launch.
        ends: in node rank order.
        stopped_at: when we began to stop it, seconds since 1970, our clock; None if nobody did.
        first: the node rank whose end made us stop it, None if a person did.
        own: the failures that no stop of ours explains, by node rank.
        root: the root cause; None where there is none.
    """

    launch: Launch
    ends: tuple[RankEnd, ...]
    stopped_at: float | None = None
    first: int | None = None
    own: Mapping[int, tuple[RankFailure, ...]] = attrs.field(factory=dict)
    root: RankFailure | None = None

    def name(self, rank: int) -> str:
        """Return the name of a rank's node."""
        return self.launch.jobs[rank].node.name

    def global_rank(self, failure: RankFailure) -> int | None:
        """Return which rank of all has failed, None where no single one is known."""
        if failure.local_rank is None:
            return None
        return self.launch.placement.first_rank(failure.node_rank) + failure.local_rank

    def told_of(self, rank: int) -> str:
        """Return what the other nodes' supervisors ended for, where that is this rank; else ""."""
        return next(iter(self.accusations(rank).values()), "")

    def accusations(self, rank: int) -> dict[int, str]:
        """Return what the nodes say whose supervisors ended because of this rank, by their node ranks."""
        words = {by: end.status.because for by, end in enumerate(self.ends) if end.status is not None}
        return {by: why for by, why in words.items() if why.startswith(f"node rank {rank} (")}

    def ended_at(self, rank: int) -> float:
        """Return when a rank ended, by our clock; when we learned of it, where the node did not say."""
        end = self.ends[rank]
        if end.status is None or end.status.ended_at is None:
            return end.known_at
        return end.status.ended_at - self.launch.clock_offsets_s[rank]

    def was_stopped(self, rank: int) -> bool | None:
        """Return whether a rank's program ended because somebody asked it to; None where its node does not know.

        The node says it, which saw the one and the other: clocks are off, and one may have been moved meanwhile.
        """
        status = self.ends[rank].status
        if status is None or status.state not in ("exited", "signalled"):
            return None
        return status.stopped and not status.timed_out

    def told_to_stop_at(self, rank: int) -> float | None:
        """Return when a rank was told to end, by us or by the other nodes' supervisors, by our clock; None if never."""
        status, offset = self.ends[rank].status, self.launch.clock_offsets_s[rank]
        if status is None or self.was_stopped(rank) is None:
            return self.stopped_at
        told = [at - offset for at in (status.told_at, status.stopped_at) if at is not None]
        return min(told) if told else self.stopped_at if status.stopped else None
