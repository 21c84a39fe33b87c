"""Slots of a node, in which commands of a queue run side by side: how many, and which GPU each sees."""

from __future__ import annotations

from collections.abc import Sequence

from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.base import EnvWithGpus
from asyncdeploy.launch.preflight.visible_gpus import VISIBLE, hidden_gpus, seen_words
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.attached import run_command

SLOT = "ASYNCDEPLOY_SLOT"
ASK = f'printf %s "${{{VISIBLE}-all}}"'


async def visible_words(remote: Remote, deployment: Deployment) -> tuple[str, ...]:
    """Return the GPUs that commands of a deployment see, each as a word of CUDA_VISIBLE_DEVICES; none without GPUs.

    Raises:
        DeployError: the node could not be asked.
    """
    gpus, env = deployment.facts.gpus, deployment.env
    if not gpus:
        return ()
    if isinstance(env, EnvWithGpus):  # inside they are counted anew
        hidden = hidden_gpus(gpus, (env.visible_gpus(),), None)
        return tuple(str(number) for number in range(len(gpus) - len(hidden)))
    return seen_words(gpus, (await run_command(remote, ASK, check=True)).text)


def slot_count(deployment: Deployment, words: Sequence[str], per_node: int | None) -> int:
    """Return how many commands run at a time on a node."""
    return per_node or deployment.node.slots or len(words) or 1


def slot_env(slot: int, words: Sequence[str]) -> dict[str, str]:
    """Return the variables of a slot; more slots than GPUs share them in turn."""
    if not words:
        return {SLOT: str(slot)}
    # The order in which nvidia-smi counts, and not CUDA's own, which puts the fastest first.
    return {SLOT: str(slot), VISIBLE: words[slot % len(words)], "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
