"""How nodes that shall work as one differ, by their facts and by what their bootstraps made. Text; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncdeploy.envs.built import Built
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import fold_names


def drift_of(nodes: Sequence[tuple[str, NodeFacts, Built | None]]) -> tuple[str, ...]:
    """Return how nodes that shall work as one differ, a line each; nothing where all are alike.

    Args:
        nodes: name, facts, and what was built there, in the order of their ranks.
    """
    things: list[tuple[str, Callable[[NodeFacts, Built | None], str]]] = [
        ("Python", lambda _, built: built.python if built else ""),
        ("torch", lambda _, built: built.torch if built else ""),
        ("torch's CUDA", lambda _, built: built.cuda if built else ""),
        ("NVIDIA driver", lambda facts, _: facts.gpus[0].driver if facts.gpus else ""),
        ("GPUs", lambda facts, _: ", ".join(sorted({gpu.name for gpu in facts.gpus}))),
    ]
    lines = [line for what, of in things if (line := _difference(what, [(n, of(f, b)) for n, f, b in nodes]))]
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
