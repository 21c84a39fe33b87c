"""What every launcher's ranks start with: clean variables, their launch's files on the node. Text only, no I/O.

A launch has a folder on each node, ``~/.asyncdeploy/launches/<id>``: its tools, and ``rank-<node rank>`` with the logs,
exits and errors of that node's ranks (nodes may share a home).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from asyncdeploy.launch.placement import NodePlace, Placement, rank_env
from asyncdeploy.values.command import Command, Secrets, check_env
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import Pairs
from asyncdeploy.values.texts import packaged_text

LOG_FOLDER = '"$ASYNCDEPLOY_LOG_FOLDER"'
"""As a word of a shell line behind ``rank_start``."""
RANK_LINE = "ASYNCDEPLOY_RANK_LINE"
"""The variable by which rank_runner.py is told what each rank runs; no rank sees it."""
RUNNER = '"$ASYNCDEPLOY_LAUNCH_FOLDER/tools/rank_runner.py"'
TORCHRUN = '"$ASYNCDEPLOY_LAUNCH_FOLDER/tools/torchrun.py"'
"""Programs of ours, as words of a shell line behind ``rank_start``."""

SHUTDOWN_S = 300
"""Seconds that torchrun's agent gives its workers after TERM, where the launch's own grace is not longer. The
supervisor counts the grace of a stop and ends the agent with the rest when it is over: the agent must not lose patience
first. It has to, though, where somebody else has sent it TERM and a worker is deaf."""

PLANNED_ENV = regex(
    r"(?:(?:LOCAL_|GROUP_|ROLE_)?(?:RANK|WORLD_SIZE)|ROLE_NAME|NODE_RANK|MASTER_ADDR|MASTER_PORT|PYTHON_EXEC|PET_.*"
    r"|ASYNCDEPLOY_.*|TORCHELASTIC_(?:RESTART_COUNT|MAX_RESTARTS|RUN_ID|ERROR_FILE|USE_AGENT_STORE))\Z"
)
"""What the launch or torchrun sets for every rank, torchrun's options by another name: rank_start.sh drops it."""
SESSION_ENV = regex(r"(?:SLURMD?_|OMPI_|PMIX?_|MV2_|MPI_LOCAL|JSM_|LSB_|PALS_).*\Z")
"""What says that a process belongs to a job of Slurm, Open MPI, MPICH, MVAPICH, LSF or PALS: rank_start.sh drops it, or
a rank would take the session that we came in by for its own launch."""
_LAUNCH_NAME = regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}\Z")
_NAME = regex(r"[A-Za-z_][A-Za-z0-9_]*\*?\Z")


def log_folder(launch_id: str, node_rank: int) -> str:
    """Return the folder on a node that holds the logs of its ranks, below the login's home."""
    return f"~/.asyncdeploy/launches/{launch_id}/rank-{node_rank}"


def start_env(placement: Placement, place: NodePlace) -> dict[str, str]:
    """Return the variables with which a node's ranks start; a user's own value for one of them wins."""
    env = rank_env(placement, place) | {
        "PYTHONUNBUFFERED": "1",  # else lines come when a buffer is full, and the last ones of a killed rank never
        "PYTHONFAULTHANDLER": "1",  # where Python was when a library of the rank crashed
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(SHUTDOWN_S, math.ceil(placement.grace_s))),
    }
    if place.interface:
        # gloo takes exact names; NCCL takes prefixes unless "=" says that the name is whole.
        env |= {"GLOO_SOCKET_IFNAME": place.interface, "NCCL_SOCKET_IFNAME": f"={place.interface}"}
    return env


@functools.cache
def rank_start(kept: tuple[str, ...] = ()) -> str:
    """Return the lines of rank_start.sh as one, for ``f"{rank_start()}; exec ..."``.

    Args:
        kept: names of the session's variables that stay, "SLURM_*" for all that begin so.
    """
    text = packaged_text("node_side/launch/rank_start.sh").replace("\\\n", "")
    text = text.replace(" in -)", f" in {'|'.join(kept) or '-'})")
    return "; ".join(line for line in text.splitlines() if line and not line.startswith("#"))


def told_line(command: Command) -> str:
    """Return what a launcher's command runs, for people: without the lines of rank_start.sh in front of it."""
    if (carried := dict(command.env).get(RANK_LINE)) is not None:
        return carried
    last = rank_start().rpartition("; ")[2]
    before, mark, rest = command.line.partition(f"{last}; ")
    return rest if mark else before


def to_names(names: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return names as a tuple; one may be given alone."""
    return (names,) if isinstance(names, str) else tuple(names)


def kept_names(env: Pairs, secrets: Secrets, keep_env: Iterable[str]) -> tuple[str, ...]:
    """Return what of the session stays: what is asked for, and what the launch itself sets."""
    return (*keep_env, *(name for name, _ in (*env, *secrets) if SESSION_ENV.match(name)))


def is_kept(name: str, kept: Iterable[str]) -> bool:
    """Return whether a variable is one of those that stay."""
    return any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in kept)


def check_name(what: str, name: str) -> None:
    """Refuse a name that leaves no room for a rank's number, or is none; ValueError."""
    if not _LAUNCH_NAME.match(name):
        raise ValueError(f"{what} name: 1 to 48 of A-Z, a-z, 0-9, '-' and '_' were expected, got {name!r}")


def check_master_port(what: str, port: int | None) -> None:
    """Refuse what is no TCP port; None is a free one. ValueError."""
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"{what} master_port: 1 to 65535 was expected, got {port!r}")


def check_keep_env(what: str, keep_env: Iterable[str]) -> None:
    """Refuse what is no name of a variable, or one that follows from the plan of a launch; ValueError."""
    for name in keep_env:
        if not _NAME.match(name):
            raise ValueError(f"{what} keep_env: a name, or the beginning of one and '*', was expected, got {name!r}")
        if PLANNED_ENV.match(name):
            raise ValueError(f"{what} keep_env: {name} is set by the launch or by torchrun itself; leave it out")


def check_rank_env(what: str, env: Pairs, secrets: Secrets) -> None:
    """Refuse variables that no shell takes, and those that follow from the plan of a launch; ValueError."""
    values: Iterable[tuple[str, str]] = (*env, *((name, secret.value or "") for name, secret in secrets))
    for name, value in values:
        check_env(name, value)
        if PLANNED_ENV.match(name):
            raise ValueError(f"{what} env: {name} is set by the launch or by torchrun itself; leave it out")
