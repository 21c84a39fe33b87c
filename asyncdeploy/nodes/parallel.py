"""Many nodes at once, bounded, in order, nobody's result lost: map_nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Outcome, Report
from asyncdeploy.values.errors import Cancelled, DeployError, Skipped, WorkFailed

T = TypeVar("T")


async def map_nodes(
    nodes: str | Node | Iterable[str | Node],
    work: Callable[[Node], Awaitable[T]],
    *,
    at_once: int = 32,
    stop_on_failure: bool = False,
) -> Report[T]:
    """Do the same work for many nodes and report what became of each.

    Args:
        nodes: the nodes, or what ``parse_nodes`` takes.
        work: called with each node; its value is taken at its word.
        at_once: how many nodes are worked on at a time.
        stop_on_failure: after the first failure start no more nodes and cancel those under way.

    Returns:
        One outcome a node, in the order given. An exception of one node never touches the others' results.

    On cancellation the work of every node is cancelled, then the cancellation goes on.
    """
    if at_once < 1:
        raise ValueError(f"at_once: at least 1 was expected, got {at_once}")
    fleet = parse_nodes(nodes)
    outcomes: dict[Node, Outcome[T]] = {}
    limit = anyio.CapacityLimiter(at_once)

    async with anyio.create_task_group() as group:

        async def one(node: Node) -> None:
            async with limit:
                try:
                    outcomes[node] = await _outcome(node, work)
                finally:
                    if node not in outcomes:
                        outcomes[node] = Outcome(
                            node, "cancelled", error=Cancelled(_name(node), "stopped while it was under way")
                        )
            if stop_on_failure and not outcomes[node].ok:
                group.cancel_scope.cancel()

        for node in fleet:
            group.start_soon(one, node)
    return Report(tuple(outcomes.get(node) or _not_started(node) for node in fleet))


async def _outcome(node: Node, work: Callable[[Node], Awaitable[T]]) -> Outcome[T]:
    try:
        return Outcome(node, "ok", await work(node))
    except DeployError as error:
        return Outcome(node, error.outcome, error=error)
    except Exception as cause:  # noqa: BLE001 - nobody else's result may be lost by it
        failure = WorkFailed(_name(node), f"the work for this node raised {type(cause).__name__}: {cause}")
        failure.__cause__ = cause
        return Outcome(node, "failed", error=failure)


def _not_started(node: Node) -> Outcome[T]:
    return Outcome(node, "skipped", error=Skipped(_name(node), "not started: another node had failed"))


def _name(node: Node) -> str:
    return node.name or node.host
