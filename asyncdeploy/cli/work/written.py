"""Nodes as a person would type them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import asyncdeploy as ad


def destination(node: ad.Node) -> str:
    """Return a node as ssh's -J, and we, take it."""
    host = f"[{node.host}]" if ":" in node.host else node.host
    return f"{f'{node.user}@' if node.user else ''}{host}{f':{node.port}' if node.port else ''}"


def flags_of(nodes: Iterable[ad.Node]) -> str:
    """Return the flag that names the nodes."""
    return f"-n {','.join(map(destination, nodes))}"


def hops(node: ad.Node | None) -> Iterator[ad.Node]:
    """Give a jump host and those before it, the last hop first."""
    while node is not None:
        yield node
        node = node.jump
