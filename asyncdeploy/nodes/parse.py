"""Many machines, in the order of their node ranks: parse_nodes, read_hostfile, fold_names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from asyncdeploy.nodes.names import default_name, shown
from asyncdeploy.nodes.node import MAX_HOPS, Node, NodeNote, as_jump, as_key_path, login, tell
from asyncdeploy.nodes.ranges import GAPS, expand_ranges, fold_names, split_items
from asyncdeploy.nodes.syntax import is_ssh_line
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.regex import regex

__all__ = ["MAX_HOPS", "MAX_NODES", "Node", "NodeNote", "fold_names", "node_ranks", "parse_nodes", "read_hostfile"]

MAX_NODES = 10_000
"""Nodes in one list: a client's descriptors end before it, so a longer one is a slip of the finger."""

MAX_HOSTFILE_BYTES = 4 << 20
"""A line of 400 bytes for each of MAX_NODES."""

_WORD = regex(rf"[^{GAPS}]+")
_EQUALS = regex(rf"[{GAPS}]*=[{GAPS}]*")


def parse_nodes(
    nodes: str | Node | Iterable[str | Node],
    *,
    user: str | None = None,
    port: int | None = None,
    key_path: str | os.PathLike[str] | None = None,
    jump: Node | str | None = None,
) -> tuple[Node, ...]:
    """Return nodes in the order written, which is their node rank: at most MAX_NODES, of some KB each.

    Args:
        nodes: a Node, text, or any number of both. Text holds nodes with commas or white space between them, ranges
            ("root@gpu[01-03,07]:22", zeros kept), or one pasted ``ssh ...`` line a line.
        user, port, key_path, jump: for the nodes that do not say it themselves.

    Raises:
        ValueError: no node, more than MAX_NODES, text that cannot be read, two nodes of one name, or one login twice.
    """
    found: list[Node] = []
    for item in [nodes] if isinstance(nodes, str | Node) else _iterate(nodes):
        found.extend(_read_item(item, at_most=MAX_NODES - len(found)))
    if not found:
        raise ValueError(f"at least one node was expected, got {shown(nodes)}")
    defaults = {"user": user, "port": port, "key_path": as_key_path(key_path), "jump": as_jump(jump)}
    filled = tuple(_fill(node, defaults) for node in found)
    _refuse_twins(filled, lambda index: f"node {index}")
    return filled


def node_ranks(nodes: Iterable[Node]) -> dict[Node, int]:
    """Return the rank of each node: its number in their order, the first one is 0."""
    return {node: rank for rank, node in enumerate(nodes)}


@checked
def read_hostfile(path: str | os.PathLike[str]) -> tuple[Node, ...]:
    """Read a hostfile as OpenMPI and DeepSpeed write it: one "host slots=8" a line, "#" starts a comment.

    A host is written as for ``parse_nodes``: "root@gpu01:2222 slots=8", "gpu[01-08] slots=8". A number after ":" is the
    port here as everywhere, not MPICH's number of processes. ``max_slots`` has no effect (a NodeNote says so). A file
    has at most MAX_HOSTFILE_BYTES.

    Args:
        path: the file; "~" is expanded.

    Raises:
        ValueError: a line cannot be read or repeats a node; the error names file and line.
        OSError: the file cannot be read.
    """
    file = Path(path).expanduser()
    with file.open("rb") as stream:
        raw = stream.read(MAX_HOSTFILE_BYTES + 1)
    if len(raw) > MAX_HOSTFILE_BYTES:
        raise ValueError(f"{file}: a hostfile of at most {MAX_HOSTFILE_BYTES} bytes was expected, it has more")
    found: list[Node] = []
    lines: list[int] = []  # where each node stands
    ignored: list[str] = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            nodes, dropped = _read_host_line(line.decode("utf-8"), at_most=MAX_NODES - len(found))
        except ValueError as error:
            raise ValueError(f"{file}:{number}: {error}") from None
        found.extend(nodes)
        lines.extend([number] * len(nodes))
        ignored.extend(f"{word} in line {number}" for word in dropped)
    if not found:
        raise ValueError(f"{file}: at least one line such as 'gpu01 slots=8' was expected")
    try:
        _refuse_twins(found, lambda index: f"line {lines[index]}")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    tell(f"{file}: left out: {', '.join(ignored[:10])}" if ignored else "")  # ten tell the story
    return tuple(found)


def _iterate(nodes: Any) -> Iterable[str | Node]:
    if isinstance(nodes, os.PathLike | bytes | bytearray) or not isinstance(nodes, Iterable):
        raise ValueError(f"nodes: text or Nodes were expected (a file is for read_hostfile), got {shown(nodes)}")
    if isinstance(nodes, set | frozenset):
        raise ValueError(f"nodes: a list was expected, whose order is the nodes' ranks; a set has none: {shown(nodes)}")
    return nodes


def _read_item(item: str | Node, *, at_most: int) -> list[Node]:
    """Return the nodes of one element; ``at_most`` is what MAX_NODES leaves."""
    if isinstance(item, Node):
        found = [item]
    elif isinstance(item, str):
        found = []
        for line in item.replace("\\\n", " ").split("\n"):
            if is_ssh_line(line.strip(GAPS)):
                found.append(Node.parse(line))
            else:
                found.extend(_read_list(line, at_most=at_most - len(found)))
    else:
        raise ValueError(f"nodes: text or a Node was expected, got {shown(item)}")
    if len(found) > at_most:
        raise ValueError(f"nodes: at most {MAX_NODES} were expected, got more")
    return found


def _read_list(text: str, *, at_most: int) -> list[Node]:
    """Return the nodes of text in which commas and white space stand between nodes."""
    found: list[Node] = []
    try:
        items = split_items(text)
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}") from None
    for item in items:
        try:
            targets = expand_ranges(item, at_most=at_most - len(found))
        except ValueError as error:
            raise ValueError(f"{shown(item)}: {error}") from None
        found.extend(Node.parse(target) for target in targets)
    return found


def _fill(node: Node, defaults: dict[str, Any]) -> Node:
    changes = {field: value for field, value in defaults.items() if value is not None and getattr(node, field) is None}
    if not changes:
        return node
    if "port" in changes and node.name == default_name(node.host, None):
        changes["name"] = None  # it was derived, so it follows the port
    try:
        return attrs.evolve(node, **changes)
    except ValueError as error:
        raise ValueError(f"{node.name}: {error}") from None


def _refuse_twins(nodes: Sequence[Node], where: Callable[[int], str]) -> None:
    """Refuse two nodes of one name, and one login twice; behind different jump hosts one address is two machines."""
    names: dict[str, int] = {}
    logins: dict[tuple[Any, ...], int] = {}
    for index, node in enumerate(nodes):
        if (first := names.setdefault(node.name, index)) != index:
            both = f"{where(first)} and {where(index)}"
            raise ValueError(f"two nodes are called {node.name!r} ({both}); names must differ")
        if (first := logins.setdefault((*login(node), node.jump), index)) != index:
            both = f"{nodes[first].name!r} ({where(first)}) and {node.name!r} ({where(index)})"
            raise ValueError(f"{both} are the same user, host and port; a node may stand in the list once")


def _read_host_line(line: str, *, at_most: int) -> tuple[list[Node], list[str]]:
    """Return the nodes of one line of a hostfile and the words that have no effect."""
    words = _WORD.findall(_EQUALS.sub("=", line.lstrip("\ufeff").partition("#")[0]))
    if not words:
        return [], []
    slots: int | None = None
    dropped = []
    for word in words[1:]:
        key, _, value = word.partition("=")
        if key in ("max_slots", "max-slots"):
            dropped.append(word)
        elif key == "slots" and slots is None and re.fullmatch(r"[0-9]{1,9}", value):
            slots = int(value)
        else:
            raise ValueError(f"'host slots=8' was expected, got {shown(word)} in {shown(line.strip(GAPS))}")
    nodes = _read_item(words[0], at_most=at_most)
    return [attrs.evolve(node, slots=slots) for node in nodes], dropped
