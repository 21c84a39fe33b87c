"""What every engine's launcher shares: a node's line, what stands around it, and how it ends. Text only, no I/O."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import get_type_hints

import attrs

from asyncdeploy.launch.launchers.rank_env import LOG_FOLDER
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.placement import NodePlace, Placement
from asyncdeploy.values.command import Command

IN_CONTAINER = (
    '[ "${ASYNCDEPLOY_CONTAINER##* }" != "asyncdeploy-${ASYNCDEPLOY_JOB-}" ] || '
    'printf "%s\\n" "$ASYNCDEPLOY_CONTAINER" "$(command -v python3)"'
)
"""Says where the engine is, if that is a container of its own job's (node_side/engines/inside.py reads it)."""
ENDED = 70
"""An engine does not end by itself: one that exits 0 is a failure too, and its nodes end together."""
JOIN_S = 120.0
"""From the start of all nodes until the last is seen: an engine that is imported from a cold network disk takes one."""


def engine_ranks(name: str, engine: Callable[[Placement, NodePlace], Command]) -> Ranks:
    """Return the ranks of an engine, one command a node.

    Args:
        name: of the launch.
        engine: returns a node's command, whose lines run its engine until it ends. Drivers have its variables too.
    """

    def command(placement: Placement, node_rank: int) -> Command:
        inner, folder = engine(placement, placement.places[node_rank]), engine_folder(placement, node_rank)
        line = "\n".join(
            [
                # Where another user has made it there may be anything in it.
                f"mkdir -m 700 {folder} || exit",
                f"echo $$ >{LOG_FOLDER}/engine.pid",  # drivers find the engine and its variables by it
                # In a container of ours they get in by its name, and by the Python that the environment has there.
                f"{IN_CONTAINER} >{LOG_FOLDER}/engine.container",
                # What a task's own process dies of is no failure of the engine, and must not be read as one days later.
                "unset ASYNCDEPLOY_ERRORS",
                # Its workers take tasks to pieces whose modules lie in the project.
                'PYTHONPATH="$PYTHONPATH:$PWD"; export PYTHONPATH',
                inner.line,
                "status=$?",
                f"rm -rf {folder} || {{ sleep 1; rm -rf {folder}; }}",  # its helpers may still write there
                f'[ "$status" != 0 ] || status={ENDED}',
                'exit "$status"',
            ]
        )
        return attrs.evolve(inner, line=line, on_end=f"rm -rf {folder}")

    return Ranks(command, nproc_per_node=None, each="node", name=name, uneven=True, opens_port=True)


def engine_folder(placement: Placement, node_rank: int) -> str:
    """Return the folder in which a node's engine keeps what it writes; short, as the names of sockets in it are."""
    return f"/tmp/ad-{placement.launch_id.rpartition('-')[2]}-{node_rank}"  # noqa: S108 - made anew, for us alone


def head_of(placement: Placement) -> str:
    """Return where the engine's head listens, "10.0.0.1:23456"."""
    return f"{bracketed(placement.master_addr)}:{placement.master_port}"


def bracketed(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def words_of(words: Iterable[str], options: Mapping[str, str | None]) -> str:
    """Return the words of a command and its options as shell; an option without a value is not said."""
    return shlex.join([*words, *(f"{name}={value}" for name, value in options.items() if value is not None)])


def check_options(what: str, options: Iterable[str], planned: Iterable[str]) -> None:
    """Refuse options that follow from the plan of a launch; ValueError."""
    for option in options:
        name = option.partition("=")[0].replace("_", "-")
        if "\0" in option or not name.startswith("-"):
            raise ValueError(f"{what} options: words like '--name=value' were expected, got {option!r}")
        if name == "--" or any(each.startswith(name) for each in planned):
            raise ValueError(f"{what} options: {option} follows from the plan of the launch; leave it out")


def check_resources(what: str, resources: Iterable[tuple[str, float]]) -> None:
    """Refuse resources without a name, or of which there is less than nothing; ValueError."""
    for name, amount in resources:
        if not name or "=" in name or not 0 < amount < float("inf"):
            raise ValueError(f"{what} resources: names and numbers above 0 were expected, got {name!r}: {amount!r}")


def check_at_least(what: str, value: float | None, least: float) -> None:
    """Refuse a number below the least one; ValueError."""
    if value is not None and not least <= value < float("inf"):
        raise ValueError(f"{what}: at least {least:g} was expected, got {value!r}")


def check_join(what: str, join_s: float) -> None:
    """Refuse a time in which nothing can join; ValueError."""
    if not 0 < join_s < float("inf"):
        raise ValueError(f"{what} join_s: seconds above 0 were expected, got {join_s!r}")


def to_resources(value: Mapping[str, float] | Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Return a mapping of names to amounts as sorted pairs."""
    items = value.items() if isinstance(value, Mapping) else value
    return tuple(sorted((str(name), float(amount)) for name, amount in items))


# attrs copies it to the constructors of classes elsewhere, where the names in it mean nothing.
to_resources.__annotations__ = get_type_hints(to_resources)
