"""Whether the torch of an environment can use the GPUs of its node, by what is known of both. Text; no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from asyncdeploy.envs.built import Built
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import fold_names

OLDEST_DRIVERS = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580,)}
"""Of NVIDIA for Linux, by CUDA's major version: within one a program runs on an older minor version's driver too.
Source: NVIDIA, CUDA Compatibility, "Minor Version Compatibility", and the CUDA Toolkit's release notes."""


def cuda_warnings(nodes: Sequence[tuple[str, NodeFacts, Built | None]]) -> tuple[str, ...]:
    """Return where torch will not find the GPUs, a line for all nodes of which the same is true.

    Args:
        nodes: name, facts with the GPUs that are seen, and what was built there, in the order of their ranks.
    """
    found: dict[str, list[str]] = {}
    for name, facts, built in nodes:
        if facts.gpus and built is not None and built.torch and (text := _problem(facts, built)):
            found.setdefault(text, []).append(name)
    return tuple(f"{fold_names(names)}: {text}" for text, names in found.items())


def _problem(facts: NodeFacts, built: Built) -> str:
    if not built.cuda:
        sure = built.torch.endswith("+cpu")
        what = "is made for CPUs" if sure else "does not say for which CUDA it is made"
        return f"torch {built.torch} {what}: ranks {'' if sure else 'may '}use none of the {len(facts.gpus)} GPUs"
    driver, major = facts.gpus[0].driver, _numbers(built.cuda)[:1]
    oldest = OLDEST_DRIVERS.get(major[0]) if major else None
    if oldest is None or not _numbers(driver) or _numbers(driver) >= oldest:
        return ""
    least = ".".join(f"{part:02d}" for part in oldest)
    return (
        f"torch {built.torch} is made for CUDA {built.cuda}, which needs a driver from {least} on; there it is {driver}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers, nothing of one that is none."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() and len(part) < 9 for part in parts) else ()
