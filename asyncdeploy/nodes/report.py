"""What a fleet answered: Outcome, Report, FleetError. Every node stands in it exactly once, whatever became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import attrs

from asyncdeploy.nodes.alike import fold_errors, headline, in_order, notes_of
from asyncdeploy.nodes.parse import Node, fold_names
from asyncdeploy.nodes.report_table import report_table
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import DeployError, State
from asyncdeploy.values.serialize import to_plain
from asyncdeploy.values.shown.table import Described, Table, cell, count, tally
from asyncdeploy.values.shown.uncaught import ForPeople

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


@attrs.frozen(repr=False, slots=False)
class Report(Described, Generic[T]):
    """The outcomes of all nodes, in the order in which the nodes were given; printed it is a table."""

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

    @checked
    def unwrap(self) -> tuple[T, ...]:
        """Return every node's value, in order.

        Raises:
            FleetError: a node's outcome is not ok; its ``report`` is this one, so nobody's result is lost.
        """
        if not self.ok:
            raise FleetError.of(self)
        return self.values

    def table(self) -> Table:
        """Return a row a node: its state, and the last line that it printed, or its error."""
        return report_table([(each.node.name, each.state, each.value, each.error) for each in self.outcomes])

    def __getitem__(self, node: Node | str) -> Outcome[T]:
        found = self._by_node.get(node)
        if found is None:
            raise KeyError(node.name if isinstance(node, Node) else node)
        return found

    @cached_property
    def _by_node(self) -> dict[Node | str, Outcome[T]]:
        """Each outcome by its node and by that one's name: whoever asks for one asks for all, of thousands."""
        found: dict[Node | str, Outcome[T]] = {}
        for outcome in reversed(self.outcomes):
            found[outcome.node] = found[outcome.node.name] = outcome
        return found

    def __iter__(self) -> Iterator[Outcome[T]]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        bad = fold_names(outcome.node.name for outcome in self.failures)
        of_whom = f" ({cell(bad, 40)})" if bad else ""
        states = tally([outcome.state for outcome in self.outcomes])
        return f"{type(self).__name__}({count(len(self), 'node')}: {states}{of_whom})"

    def __str__(self) -> str:
        return self.describe()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"ok": self.ok, "outcomes": [outcome.to_dict() for outcome in self.outcomes]}


class FleetError(ForPeople, ExceptionGroup[DeployError]):
    """Some nodes failed: the errors of all that did, the root cause first, and the whole report.

    ``str`` is one line: how many failed, and the first error with all nodes that have it; ``describe()`` has the rest.
    """

    report: Report[Any]

    def __new__(cls, message: str, errors: Sequence[DeployError], report: Report[Any] | None = None) -> Self:
        """Build the group; ``report`` is the whole fleet's."""
        self = super().__new__(cls, message, errors)
        self.report = report if report is not None else Report(())
        return self

    def __init__(self, message: str, errors: Sequence[DeployError], report: Report[Any] | None = None) -> None:
        super().__init__(message, errors)

    def __str__(self) -> str:
        return self.message  # a group would add how many errors it holds, which the message has said

    def __repr__(self) -> str:
        return f"FleetError({self.message!r})"

    @classmethod
    def of(cls, report: Report[Any]) -> FleetError:
        """Return the error that a report with failures raises."""
        errors = in_order(
            outcome.error or DeployError(outcome.node.name or outcome.node.host, f"ended as {outcome.state}")
            for outcome in report.failures
        )
        hosts = {outcome.node.name: outcome.node.host for outcome in report}
        first = fold_errors(errors, hosts)[0].text.partition("\n")[0]
        error = cls(f"{headline(errors, len(report))}: {first}", errors, report)
        if errors[0].cause_is_theirs:  # their own code raised it: where, they want to see
            error.__cause__, error.cause_is_theirs = errors[0].__cause__, True
        return error

    def shown_notes(self) -> list[str]:
        """Return what stands below the message: the proof and the hint of the first error, then the others, folded."""
        hosts = {outcome.node.name: outcome.node.host for outcome in self.report}
        errors = [error for error in self.exceptions if isinstance(error, DeployError)]
        added = super().shown_notes()
        return [*notes_of(fold_errors(errors, hosts)), *added]

    def derive(self, excs: Sequence[Any]) -> FleetError:  # type: ignore[override]  # a part of ours is ours
        """Return a part of the group that keeps the report."""
        return FleetError(self.message, excs, self.report)

    def __reduce__(self) -> tuple[Any, ...]:
        return (FleetError, (self.message, list(self.exceptions), self.report))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"type": "FleetError", "message": self.message, "report": self.report.to_dict()}
