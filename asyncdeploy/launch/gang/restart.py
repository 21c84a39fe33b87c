"""Whether and where a launch that failed is started again: Restart, the rule; Recovery, how far it went. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from asyncdeploy.deploy import Deployment
from asyncdeploy.launch.launch import Attempts
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.errors import LaunchFailed


@checked_class
@attrs.frozen
class Restart:
    """A launch that failed is started again as a whole, on a new port, while somebody waits for it or follows it.

    The node of the root cause is replaced by a spare as long as there is one. Ranks find the number of their attempt,
    from 0, in ASYNCDEPLOY_ATTEMPT. The same root cause twice is no accident: it is not tried a third time.

    Args:
        times: how often at most.

    Raises:
        ValueError: less than one.
    """

    times: int = 3

    def __attrs_post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"Restart times: 1 or more were expected, got {self.times!r}")


@attrs.define(eq=False)
class Recovery(Attempts):
    """The attempts of a launch with a Restart, and what the next one would need.

    Attributes:
        policy: how often.
        deployments: where it runs, in node rank order.
        spares: ready, and not used yet.
        launcher / grace_s: how it was started.
        attempt: the number of the one that runs.
    """

    policy: Restart
    deployments: Sequence[Deployment]
    spares: Sequence[Deployment]
    launcher: Launcher
    grace_s: float
    attempt: int = attrs.field(default=0, init=False)
    _seen: set[tuple[str, ...]] = attrs.field(factory=set, init=False)

    def next_deployments(self, report: Report[JobStatus], failed: LaunchFailed | None) -> list[Deployment] | None:
        """Return where the next attempt shall run, None if there shall be none.

        Args:
            report: what became of the attempt.
            failed: its root cause, None if nobody knows one.
        """
        if failed is None or self.stopped or self.attempt >= self.policy.times:
            return None
        rank = failed.node_rank if failed.node_rank is not None else -1
        outcomes = list(report)
        cause = signature(failed)
        if cause in self._seen:
            return None
        lost = [index for index, outcome in enumerate(outcomes) if outcome.state == "unknown"]
        bad = [*lost, *([rank] if rank >= 0 and rank not in lost else [])]
        deployments, spares = list(self.deployments), list(self.spares)
        for index in bad:
            if spares:
                deployments[index] = spares.pop(0)
            elif index in lost:
                return None  # nobody can say that nothing of it runs there any more
        self._seen.add(cause)
        self.attempt += 1
        self.deployments, self.spares = deployments, spares
        return deployments


def signature(failed: LaunchFailed) -> tuple[str, ...]:
    """Return what makes two root causes the same: what was raised, numbers aside; else how and where it ended."""
    if failed.cause:
        return ("raised", re.sub(r"0x[0-9a-f]+|\d+", "#", failed.cause.strip().splitlines()[0]))
    return ("ended", failed.node, str(failed.status), str(failed.signal))
