"""Ask the ranks of a launch where they stand, also by itself when they have fallen silent."""

from __future__ import annotations

import json

import anyio

from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.follow.diagnosis import MAX_TEXT, Diagnosis, RankStand, stands_of
from asyncdeploy.launch.launch import Launch
from asyncdeploy.nodes.parallel import CALLS_AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.worker import ask
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Noted

ASK_S = 30.0
"""Ranks have 2 s to write where they are, py-spy and nvidia-smi 10 s each."""
MAX_TRACE = 4096
"""Of what one flight recorder says: the last collectives of a rank."""
LOOKS = 4
"""In the time after which silence counts; not more often than once a second."""


async def diagnose(pool: Pool, launch: Launch) -> Diagnosis:
    """Return where all ranks of a launch stand; none of them is stopped or disturbed. See ``diagnose_launch``."""
    ranks = launch.ranks
    found: list[RankStand] = []
    gpus: list[tuple[str, str]] = []
    recorders: list[tuple[str, str]] = []
    silent: dict[str, str] = {job.node.name: f"not within {ASK_S:.0f} s" for job in launch.jobs}

    async def ask_node(node: Node) -> None:
        name, rank = node.name, ranks[node]
        request = {"op": "stacks", "job": launch.jobs[rank].id}
        with anyio.move_on_after(ASK_S):
            try:
                answer = await ask(pool.at(node), "launch.stacks", request, what="where its ranks stand")
                stands = stands_of(rank, name, answer)
                loads = [(name, line.text(limit=MAX_TEXT)) for line in answer["gpus"].items()]
                traces = [(name, json.dumps(each.value)[:MAX_TRACE]) for each in answer["recorders"].items()]
            except DeployError as error:
                silent[name] = error.message
                return
            del silent[name]
            found.extend(stands)
            gpus.extend(loads)
            recorders.extend(traces)

    await map_nodes(launch.nodes, ask_node, at_once=CALLS_AT_ONCE)
    found.sort(key=lambda stand: (stand.node_rank, stand.rank if stand.rank is not None else -1, stand.pid))
    return Diagnosis(launch.id, tuple(found), tuple(silent.items()), tuple(sorted(gpus)), tuple(recorders))


async def watch_silence(pool: Pool, launch: Launch, silent_after_s: float) -> None:
    """Say where the ranks stand whenever none of them has printed anything for so long; until it is cancelled."""
    told = False
    while True:
        await anyio.sleep(max(1.0, silent_after_s / LOOKS))
        current = launch.current
        silence = await _silence(pool, current)
        if silence is None or silence < silent_after_s:
            told = False
        elif not told:
            told = True
            found = await diagnose(pool, current)
            first = current.nodes[0]
            text = f"no rank of {current.id} has printed anything for {silence:.0f} s\n{found.describe()}"
            pool.at(first).emit(Noted(node=first.name, text=text))


async def _silence(pool: Pool, launch: Launch) -> float | None:
    """Return for how long no rank has printed anything, None where nobody can say that."""
    ranks = launch.ranks

    async def silent_s(node: Node) -> float:
        request = {"op": "silence", "job": launch.jobs[ranks[node]].id, "launch": launch.id, "node_rank": ranks[node]}
        answer = await ask(pool.at(node), "launch.stacks", request, what="how long it is silent")
        return answer["silent_s"].number()

    report = await map_nodes(launch.nodes, silent_s, at_once=CALLS_AT_ONCE)
    return min(report.values) if report.ok else None
