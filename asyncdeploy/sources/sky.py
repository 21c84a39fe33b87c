"""The nodes of a SkyPilot cluster, from the ssh_config that SkyPilot writes for it: sky_nodes."""

from __future__ import annotations

import os
from pathlib import Path

from asyncdeploy.nodes.names import check_name
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.account import home_folder
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.regex import regex

MAX_BYTES = 4 << 20
"""400 bytes for each of the 10,000 nodes that a list may have."""
_WORKER = regex(r"[1-9][0-9]{0,5}")
_HOST = regex(r"^[ \t]*Host[ \t=]+([A-Za-z0-9._-]+)[ \t]*$", 2 | 8)  # IGNORECASE | MULTILINE


@checked
def sky_nodes(cluster: str, *, folder: str | os.PathLike[str] | None = None) -> tuple[Node, ...]:
    """Return the nodes of a SkyPilot cluster, its head first, then the workers in SkyPilot's order.

    Args:
        cluster: its name, as ``sky status`` shows it.
        folder: where SkyPilot writes; None is ~/.sky/generated/ssh.

    Returns:
        A node for each Host that SkyPilot wrote down (``<cluster>``, ``<cluster>-worker1``, ...): an alias, which works
        because SkyPilot includes that file in ~/.ssh/config. SkyPilot does not check host keys; we do, so the first
        contact needs ``HostKeys.accept_new()``.

    Raises:
        ValueError: there is no such cluster, or its file names no node of it.

    The names and the place are those of skypilot-org/skypilot (sky/utils/cluster_utils.py). Nothing is started here.
    """
    check_name(cluster)
    path = (Path(folder) if folder is not None else home_folder() / ".sky" / "generated" / "ssh") / cluster
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        reason = f"cluster {cluster!r}: {path} was expected, which SkyPilot writes at `sky launch`"
        raise ValueError(f"sky_nodes {reason}: {error.strerror}") from None
    workers: dict[int, str] = {}
    for alias in _HOST.findall(text):
        number = alias.removeprefix(f"{cluster}-worker")
        if alias == cluster:
            workers[0] = alias
        elif _WORKER.fullmatch(number):
            workers[int(number)] = alias
    if 0 not in workers:
        raise ValueError(f"sky_nodes cluster {cluster!r}: a line 'Host {cluster}' was expected in {path}")
    return tuple(Node(workers[number]) for number in sorted(workers))
