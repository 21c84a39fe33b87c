"""What might disturb a job on a node: asked of it before a launch, and in words."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from asyncdeploy.launch.launchers.rank_env import PLANNED_ENV, SESSION_ENV
from asyncdeploy.launch.preflight.verdict import MAX_WORD, GpuUser, NodeSeen
from asyncdeploy.launch.preflight.visible_gpus import LOGIN, VISIBLE, Choices, hidden_gpus
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask

LITTLE_DISK = 2 * 10**9
"""A checkpoint of a small model; below it a run ends in the middle of its first save."""
LITTLE_SHARED_MEMORY = 2**30
"""Docker's default is 64 MB, which NCCL between two GPUs and one DataLoader fill."""
MUCH_GPU_MEMORY = 2 * 2**30
"""What a driver keeps of an idle GPU for itself is less."""
MUCH_OFFSET_S = 2.0
"""Time stamps of logs from nodes that differ by more mislead whoever reads them side by side."""


async def see_node(remote: Remote, facts: NodeFacts, folder: str = "", choices: Choices = (LOGIN,)) -> NodeSeen:
    """Ask a node for what only it knows, and only now.

    Args:
        remote: the node.
        facts: what is known of it already.
        folder: where the project lies, "" for the home.
        choices: what decides which of its GPUs the ranks see.

    Raises:
        ProtocolError: its answer makes no sense.
        ToolMissing: it has no python3.
        ConnectionLost, ConnectError, ...: it does not answer.
    """
    folder = folder or facts.home
    tool = facts.tool("nvidia-smi") if facts.gpus else None
    request = {"pattern": f"{PLANNED_ENV.pattern}|{SESSION_ENV.pattern}", "nvidia_smi": tool, "folder": folder}
    answer = await ask(remote, "launch.disturbances", request, what="what might disturb a launch there")
    numbers = {gpu.uuid: gpu.index for gpu in facts.gpus}
    users = tuple(
        GpuUser(numbers.get(uuid.exact(), -1), pid.whole(), used.whole(), program.text(limit=MAX_WORD))
        for uuid, pid, used, program in (row.items(4) for row in answer["gpu_users"].items())
    )
    used = {uuid.exact(): used.whole() for uuid, used in (row.items(2) for row in answer["gpu_used"].items())}
    login = answer["visible"].exact() if answer["visible"].is_there else None
    stray = [name.text(limit=MAX_WORD) for name in answer["stray"].items()]
    return attrs.evolve(
        NodeSeen.of(remote.node.name, facts),
        # Our own names disturb nobody: the ranks' are set anew, and LocalCluster marks its nodes by one.
        stray=tuple(name for name in stray if not name.startswith("ASYNCDEPLOY_")),
        gpu_users=users,
        hidden=hidden_gpus(facts.gpus, choices, login),
        gpu_used=tuple(used.get(gpu.uuid, 0) for gpu in facts.gpus),
        folder=folder,
        free_bytes=answer["free"].whole(-1),
        shared_memory_bytes=answer["shared_memory"].whole(-1),
    )


def warnings_of(everybody: Sequence[NodeSeen]) -> tuple[str, ...]:
    """Return what might disturb a job on these nodes, a line each."""
    lines = []
    most = max((len(seen.gpus) for seen in everybody), default=0)
    for seen in everybody:
        lines += [f"{seen.node}: {text}" for text in (*_of_gpus(seen, most), *_of_space(seen))]
    offsets = sorted((seen.clock_offset_s, seen.node) for seen in everybody)
    if offsets and offsets[-1][0] - offsets[0][0] > MUCH_OFFSET_S:
        (low, behind), (high, ahead) = offsets[0], offsets[-1]
        lines.append(f"the clock of {ahead} is {high - low:.1f} s ahead of that of {behind}")
    found: dict[tuple[str, ...], list[str]] = {}
    for seen in everybody:
        if seen.stray:
            found.setdefault(seen.stray, []).append(seen.node)
    for stray, names in found.items():
        lines.append(f"{fold_names(names)}: {_folded(stray)} in the login environment; ranks start without them")
    return tuple(lines)


def _folded(names: Sequence[str]) -> str:
    """Name variables; those of a session, which are dozens, by what they begin with."""
    words: dict[str, list[str]] = {}
    for name in names:
        words.setdefault(f"{name.partition('_')[0]}_*" if SESSION_ENV.match(name) else name, []).append(name)
    return ", ".join(found[0] if len(found) == 1 else f"{word} ({len(found)})" for word, found in words.items())


def _of_gpus(seen: NodeSeen, most: int) -> list[str]:
    lines = []
    for user in (user for user in seen.gpu_users if user.gpu not in seen.hidden):
        held = f"{user.memory_bytes / 2**30:.1f} GiB of " if user.memory_bytes else ""
        program = f" ({user.program})" if user.program else ""
        lines.append(f"pid {user.pid}{program} holds {held}GPU {user.gpu}")
    if seen.hidden:
        lines.append(f"{seen.usable_gpus} of {len(seen.gpus)} GPUs are seen by its ranks ({VISIBLE}, or its container)")
    named = {user.gpu for user in seen.gpu_users} | set(seen.hidden)
    for gpu, used in enumerate(seen.gpu_used):
        if used >= MUCH_GPU_MEMORY and gpu not in named:
            lines.append(f"{used / 2**30:.1f} GiB of GPU {gpu} are held by somebody who cannot be seen from here")
    if most and seen.nproc > seen.usable_gpus:  # no error: ranks may be there for the CPUs
        lines.append(f"{seen.nproc} processes for {seen.usable_gpus or 'no'} GPUs")
    return lines


def _of_space(seen: NodeSeen) -> list[str]:
    lines = []
    if 0 <= seen.free_bytes < LITTLE_DISK:
        lines.append(f"{seen.free_bytes / 1e9:.1f} GB free on the disk of {seen.folder or 'the home folder'}")
    if seen.gpus and seen.nproc > 1 and 0 <= seen.shared_memory_bytes < LITTLE_SHARED_MEMORY:
        lines.append(f"{seen.shared_memory_bytes >> 20} MiB of shared memory; NCCL and DataLoader workers need more")
    return lines
