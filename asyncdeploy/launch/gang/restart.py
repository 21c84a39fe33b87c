"""Whether and where a launch that failed is started again: Restart, the rule; Recovery, how far it went. No I/O."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

import anyio
import attrs

from asyncdeploy.deploy import Deployment
from asyncdeploy.launch.launch import Attempts, Launch
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.errors import LaunchFailed

Between = Callable[[Launch, Sequence[Deployment]], Awaitable[None]]
"""What a person has done between two attempts: with the one that failed, and where the next one will run."""


@checked_class
@attrs.frozen
class Restart:
    """A launch that failed is started again as a whole, on a new port, while somebody waits for it or follows it.

    The node of the root cause is replaced by a spare as long as there is one. Ranks find the number of their attempt,
    from 0, in ASYNCDEPLOY_ATTEMPT. The same root cause twice is no accident: it is not tried a third time.

    Args:
        times: how often at most.
        between: a coroutine function that is awaited between two attempts, with the Launch that failed and the
            Deployments of the next one in node rank order: a spare has no checkpoint of the node that was lost, and
            this may bring one (examples/carry_checkpoints.py). A DeployError of it leaves the launch failed, with a
            note; whatever else it raises reaches whoever waits or follows.

    Raises:
        ValueError: less than one.
    """

    times: int = 3
    between: Between | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"Restart times: 1 or more were expected, got {self.times!r}")


@attrs.frozen
class Plan:
    """The next attempt: where it shall run, the spares that are left then, and the cause that it follows."""

    deployments: Sequence[Deployment]
    spares: Sequence[Deployment]
    cause: tuple[str, ...]


@attrs.define(eq=False)
class Recovery(Attempts):
    """The attempts of a launch with a Restart, and what the next one would need.

    Attributes:
        policy: how often.
        deployments: where it runs, in node rank order.
        spares: ready, and not used yet.
        launcher / grace_s: how it was started.
        attempt: the number of the one that runs.
        turn: several may watch, and one of them starts the next attempt.
        over: the id of the attempt that none shall follow, "" while nobody has decided that.
        watching: how many watch over it here.
    """

    policy: Restart
    deployments: Sequence[Deployment]
    spares: Sequence[Deployment]
    launcher: Launcher
    grace_s: float
    attempt: int = attrs.field(default=0, init=False)
    turn: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)
    over: str = attrs.field(default="", init=False)
    watching: int = attrs.field(default=0, init=False)
    _seen: set[tuple[str, ...]] = attrs.field(factory=set, init=False)

    def plan(self, report: Report[JobStatus], failed: LaunchFailed | None) -> Plan | None:
        """Return what the next attempt shall be, None if there shall be none; nothing is taken for it yet.

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
        return Plan(deployments, spares, cause)

    def take(self, plan: Plan) -> None:
        """Count an attempt that was started: one that was cancelled before has cost neither a try nor a spare."""
        self._seen.add(plan.cause)
        self.attempt += 1
        self.deployments, self.spares = plan.deployments, plan.spares


def signature(failed: LaunchFailed) -> tuple[str, ...]:
    """Return what makes two root causes the same: what was raised, numbers aside; else how and where it ended."""
    if failed.cause:
        return ("raised", re.sub(r"0x[0-9a-f]+|\d+", "#", failed.cause.strip().splitlines()[0]))
    return ("ended", failed.node, str(failed.status), str(failed.signal))
