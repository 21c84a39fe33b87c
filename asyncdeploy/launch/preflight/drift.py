"""What nodes got from their bootstrap, and how they differ: Built, drift_of. Text and data; no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Self

import attrs

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.values.serialize import fields_from_plain, fields_to_plain

MAX_WORD = 100
"""Of what a node says of itself, one word."""


@attrs.frozen
class Built:
    """What an environment turned out to be on a node, as it says itself.

    Attributes:
        python: its Python's version.
        torch: torch's version, "" without torch.
        cuda: the CUDA that torch was built for, "" if for none.
        packages: how many distributions are installed.
        digest: names all of them with their versions.
    """

    python: str = ""
    torch: str = ""
    cuda: str = ""
    packages: int = 0
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what a node's line says, None if it makes no sense: it is looked at, not trusted."""
        try:
            found = fields_from_plain(cls, json.loads(text))
        except (ValueError, RecursionError):
            return None
        words = (found.python, found.torch, found.cuda, found.digest)
        return found if all(len(word) <= MAX_WORD and word.isprintable() for word in words) else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return fields_to_plain(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build it from ``to_dict``'s data."""
        return fields_from_plain(cls, data)


def drift_of(nodes: Sequence[tuple[str, NodeFacts, Built | None]]) -> tuple[str, ...]:
    """Return how nodes that shall work as one differ, a line each; nothing where all are alike.

    Args:
        nodes: name, facts, and what was built there, in the order of their ranks.
    """
    looks: list[tuple[str, Callable[[NodeFacts, Built | None], str]]] = [
        ("Python", lambda _, built: built.python if built else ""),
        ("torch", lambda _, built: built.torch if built else ""),
        ("torch's CUDA", lambda _, built: built.cuda if built else ""),
        ("NVIDIA driver", lambda facts, _: facts.gpus[0].driver if facts.gpus else ""),
        ("GPUs", lambda facts, _: ", ".join(sorted({gpu.name for gpu in facts.gpus}))),
    ]
    lines = [line for what, look in looks if (line := _difference(what, [(n, look(f, b)) for n, f, b in nodes]))]
    if not lines:
        packages = [(name, f"{built.packages} ({built.digest[:8]})" if built else "") for name, _, built in nodes]
        lines = [line for line in [_difference("packages", packages)] if line]
    return tuple(lines)


def _difference(what: str, seen: Sequence[tuple[str, str]]) -> str:
    values: dict[str, list[str]] = {}
    for name, value in seen:
        values.setdefault(value or "none", []).append(name)
    if len(values) < 2:
        return ""
    return f"{what} differs: " + "; ".join(f"{value} on {fold_names(names)}" for value, names in values.items())
