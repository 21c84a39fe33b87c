"""What the supervisors of a launch know of each other, so that its ranks end together also when nobody watches."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

import attrs

from asyncdeploy.launch.launch import Launch
from asyncdeploy.values.command import Command, Secret

VARIABLE = "ASYNCDEPLOY_GANG"
"""The supervisor takes it; what it starts does not see it."""


def with_links(launch: Launch, commands: Sequence[Command], port: int, silence_s: float) -> tuple[Command, ...]:
    """Return the commands of a launch with what their supervisors need to find each other (node_side/launch/gang.py).

    Args:
        launch: the launch.
        commands: one a node, in node rank order.
        port: of node rank 0, for the link; 0 for none.
        silence_s: after so many seconds without a word a node counts as lost.
    """
    if not port:
        return tuple(commands)
    shared = {
        "count": len(commands),
        "names": [node.name for node in launch.nodes],
        "host": launch.placement.master_addr,
        "port": port,
        "meet": launch.placement.master_port,
        "key": secrets.token_hex(32),  # of this launch alone; it proves who speaks, and hides nothing
        "silence_s": silence_s,
        "grace_s": launch.grace_s,
    }
    plans = [{**shared, "rank": rank, "name": node.name} for rank, node in enumerate(launch.nodes)]
    return tuple(
        attrs.evolve(command, secrets=(*command.secrets, (VARIABLE, Secret(json.dumps(plan)))))
        for command, plan in zip(commands, plans, strict=True)
    )
