"""What a fleet answered: Outcome, Report, FleetError. Every node stands in it exactly once, whatever became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import DeployError, State
from asyncdeploy.values.serialize import to_plain

T = TypeVar("T")


@runtime_checkable
class Judged(Protocol):
    """A value that knows whether it is a success: Completed, JobStatus, Collected."""

    def failure(self) -> DeployError | None:
        """Return None for a proven success."""
        ...


@attrs.frozen
class Outcome(Generic[T]):
    """What became of one node: ``value`` where there is one (a failed command's Completed too), ``error`` where it is
    not ok.
    """

    node: Node
    state: State
    value: T | None = None
    error: DeployError | None = None

    @property
    def ok(self) -> bool:
        """True if the work was done and proven."""
        return self.state == "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "node": self.node.name,
            "state": self.state,
            "value": to_plain(self.value),
            "error": self.error.to_dict() if self.error else None,
        }


def judge(outcome: Outcome[T]) -> Outcome[T]:
    """Return the outcome, no longer ok if its value says that it failed."""
    if outcome.state != "ok" or not isinstance(outcome.value, Judged):
        return outcome
    error = outcome.value.failure()
    return outcome if error is None else attrs.evolve(outcome, state=error.outcome, error=error)


@attrs.frozen
class Report(Generic[T]):
    """The outcomes of all nodes, in the order in which the nodes were given."""

    outcomes: tuple[Outcome[T], ...]

    @property
    def ok(self) -> bool:
        """True if every node's outcome is ok."""
        return all(outcome.ok for outcome in self.outcomes)

    @property
    def failures(self) -> tuple[Outcome[T], ...]:
        """The outcomes that are not ok."""
        return tuple(outcome for outcome in self.outcomes if not outcome.ok)

    @property
    def values(self) -> tuple[T, ...]:
        """The values of the outcomes that are ok."""
        return tuple(outcome.value for outcome in self.outcomes if outcome.ok)  # type: ignore[misc]

    def judged(self) -> Report[T]:
        """Return the report with failed values (a Completed that exited 3) counted as failures."""
        return Report(tuple(judge(outcome) for outcome in self.outcomes))

    def unwrap(self) -> tuple[T, ...]:
        """Return every node's value, in order.

        Raises:
            FleetError: a node's outcome is not ok; its ``report`` is this one, so nobody's result is lost.
        """
        if not self.ok:
            raise FleetError.of(self)
        return self.values

    def __getitem__(self, node: Node | str) -> Outcome[T]:
        for outcome in self.outcomes:
            if node in (outcome.node, outcome.node.name):
                return outcome
        raise KeyError(node.name if isinstance(node, Node) else node)

    def __iter__(self) -> Iterator[Outcome[T]]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"ok": self.ok, "outcomes": [outcome.to_dict() for outcome in self.outcomes]}


class FleetError(ExceptionGroup[DeployError]):
    """Some nodes failed: the errors of all that did, and the whole report."""

    report: Report[Any]

    def __new__(cls, message: str, errors: Sequence[DeployError], report: Report[Any] | None = None) -> Self:
        """Build the group; ``report`` is the whole fleet's."""
        self = super().__new__(cls, message, errors)
        self.report = report if report is not None else Report(())
        return self

    def __init__(self, message: str, errors: Sequence[DeployError], report: Report[Any] | None = None) -> None:
        super().__init__(message, errors)

    @classmethod
    def of(cls, report: Report[Any]) -> FleetError:
        """Return the error that a report with failures raises."""
        errors = [
            outcome.error or DeployError(outcome.node.name or outcome.node.host, f"ended as {outcome.state}")
            for outcome in report.failures
        ]
        # Those that ended only because another failed are no cause.
        cause = next((place for place, seen in enumerate(report.failures) if seen.state in ("failed", "unknown")), 0)
        first = str(errors[cause]).partition("\n")[0]
        return cls(f"{len(errors)} of {len(report)} nodes failed, first {first}", errors, report)

    def derive(self, excs: Sequence[Any]) -> FleetError:  # type: ignore[override]  # a part of ours is ours
        """Return a part of the group that keeps the report."""
        return FleetError(self.message, excs, self.report)

    def __reduce__(self) -> tuple[Any, ...]:
        return (FleetError, (self.message, list(self.exceptions), self.report))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"type": "FleetError", "message": self.message, "report": self.report.to_dict()}
