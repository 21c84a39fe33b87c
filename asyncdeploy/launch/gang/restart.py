"""What is to become of a launch that failed: Restart, and who decides by it. Text and arithmetic; no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import LaunchFailed


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


class Recovery:
    """What a launch with a Restart remembers in the process that made it; elsewhere its handle is good without.

    Attributes:
        deployments: where it runs, in node rank order.
        spares: ready, and not used yet.
        launcher / grace_s: how it was started.
        current: the attempt that runs, or ran last.
        stopped: somebody here has stopped it: that is no failure.
    """

    def __init__(
        self, policy: Restart, deployments: Sequence[Any], spares: Sequence[Any], launcher: Any, grace_s: float
    ) -> None:
        self.deployments = list(deployments)
        self.spares = list(spares)
        self.launcher = launcher
        self.grace_s = grace_s
        self.current: Launch | None = None
        self.stopped = False
        self.attempt = 0
        self._left = policy.times
        self._seen: set[tuple[str, ...]] = set()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return (type(None), ())  # two who restart one launch would start it twice

    def next_nodes(self, report: Report[JobStatus], failed: LaunchFailed | None) -> list[Any] | None:
        """Return where the next attempt shall run, None if there shall be none.

        Args:
            report: what became of the attempt.
            failed: its root cause, None if nobody knows one.
        """
        if failed is None or self.stopped or self._left < 1:
            return None
        rank = failed.node_rank if failed.node_rank is not None else -1
        outcomes = list(report)
        status = outcomes[rank].value if 0 <= rank < len(outcomes) else None
        cause = signature(failed)
        if cause in self._seen or (status is not None and status.stopped and status.told_at is None):
            return None
        lost = [index for index, outcome in enumerate(outcomes) if outcome.state == "unknown"]
        bad = [*lost, *([rank] if rank >= 0 and rank not in lost else [])]
        nodes, spares = list(self.deployments), list(self.spares)
        for index in bad:
            if spares:
                nodes[index] = spares.pop(0)
            elif index in lost:
                return None  # nobody can say that nothing of it runs there any more
        self._seen.add(cause)
        self._left -= 1
        self.attempt += 1
        self.deployments, self.spares = nodes, spares
        return nodes


def signature(failed: LaunchFailed) -> tuple[str, ...]:
    """Return what makes two root causes the same: what was raised, numbers aside; else how and where it ended."""
    if failed.cause:
        return ("raised", re.sub(r"0x[0-9a-f]+|\d+", "#", failed.cause.strip().splitlines()[0]))
    return ("ended", failed.node, str(failed.status), str(failed.signal))
