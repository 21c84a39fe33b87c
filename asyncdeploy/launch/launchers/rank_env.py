"""What every launcher's ranks start with: clean variables, their launch's files on the node. Text only, no I/O.

A launch has a folder on each node, ``~/.asyncdeploy/launches/<id>``: its tools, and ``rank-<node rank>`` with the logs,
exits and errors of that node's ranks (nodes may share a home).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from asyncdeploy.launch.placement import NodePlace, Placement, rank_env
from asyncdeploy.values.command import Secrets, check_env
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import Pairs
from asyncdeploy.values.texts import packaged_text

LOG_FOLDER = '"$ASYNCDEPLOY_LOG_FOLDER"'
"""As a word of a shell line behind ``rank_start``."""
RANK_LINE = "ASYNCDEPLOY_RANK_LINE"
"""The variable by which rank_runner.py is told what each rank runs; no rank sees it."""
RUNNER = '"$ASYNCDEPLOY_LAUNCH_FOLDER/tools/rank_runner.py"'

SHUTDOWN_S = 300
"""Seconds that torchrun's agent gives its workers after TERM, where the launch's own grace is not longer. The
supervisor counts the grace of a stop and ends the agent with the rest when it is over: the agent must not lose patience
first. It has to, though, where somebody else has sent it TERM and a worker is deaf."""

PLANNED_ENV = regex(
    r"(?:(?:LOCAL_|GROUP_|ROLE_)?(?:RANK|WORLD_SIZE)|ROLE_NAME|NODE_RANK|MASTER_ADDR|MASTER_PORT|PYTHON_EXEC|PET_.*"
    r"|ASYNCDEPLOY_.*|TORCHELASTIC_(?:RESTART_COUNT|MAX_RESTARTS|RUN_ID|ERROR_FILE|USE_AGENT_STORE))\Z"
)
"""What the launch or torchrun sets for every rank, torchrun's options by another name: rank_start.sh drops it."""


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
def rank_start() -> str:
    """Return the lines of rank_start.sh as one, for ``f"{rank_start()}; exec ..."``."""
    text = packaged_text("node_side/launch/rank_start.sh")
    return "; ".join(line for line in text.splitlines() if line and not line.startswith("#"))


def check_rank_env(what: str, env: Pairs, secrets: Secrets) -> None:
    """Refuse variables that no shell takes, and those that follow from the plan of a launch; ValueError."""
    values: Iterable[tuple[str, str]] = (*env, *((name, secret.value or "") for name, secret in secrets))
    for name, value in values:
        check_env(name, value)
        if PLANNED_ENV.match(name):
            raise ValueError(f"{what} env: {name} is set by the launch or by torchrun itself; leave it out")
