"""Which of a node's GPUs its ranks will see: what is there is not what may be used. Text and arithmetic; no I/O.

nvidia-smi counts all of them, whatever CUDA_VISIBLE_DEVICES says to CUDA, or docker's --gpus to a container.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from asyncdeploy.envs.base import Env, EnvWithGpus
from asyncdeploy.nodes.facts import Gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOGIN = None
"""In place of a choice: what the node's login environment says."""

Choices = tuple[str | None, ...]
"""Choices of GPUs in the words of CUDA_VISIBLE_DEVICES, each among those that the one before has left."""


def gpu_choices(env: Env, said: str | None = None) -> Choices:
    """Return what decides which GPUs the ranks of a node see.

    Args:
        env: where they run; into a container no variable of the login environment goes.
        said: the launch's own CUDA_VISIBLE_DEVICES, if it has one.
    """
    inside = (env.visible_gpus(),) if isinstance(env, EnvWithGpus) else ()
    return (*inside, said) if said is not None or not inside else inside


def hidden_gpus(gpus: Sequence[Gpu], choices: Iterable[str | None], login: str | None) -> tuple[int, ...]:
    """Return the indices of the GPUs that are not seen.

    Args:
        gpus: of the node.
        choices: as ``gpu_choices`` returns them.
        login: CUDA_VISIBLE_DEVICES of the login environment, None without.
    """
    seen = list(gpus)
    for words in choices:
        seen = _chosen(seen, login if words is LOGIN else words)
    return tuple(gpu.index for gpu in gpus if gpu not in seen)


def seen_words(gpus: Sequence[Gpu], login: str) -> tuple[str, ...]:
    """Return the GPUs that are seen where the login environment says so, each as a word for that variable.

    Args:
        gpus: of the node.
        login: its CUDA_VISIBLE_DEVICES, "all" without.
    """
    if login == "all":
        return tuple(str(gpu.index) for gpu in gpus)
    # The words themselves, as a part of a GPU (MIG) has no other name.
    return tuple(word.strip() for word in login.split(","))[: len(_chosen(list(gpus), login))]


def _chosen(gpus: list[Gpu], words: str | None) -> list[Gpu]:
    """Return what CUDA, and torch, make of a value: the first word that names none of the GPUs ends it."""
    if words is None or words == "all":
        return gpus
    found: list[Gpu] = []
    for word in words.split(","):
        gpu = _named(gpus, word.strip())
        if gpu in found:
            return []  # one that is named twice makes all of it void
        if gpu is None:
            break
        found.append(gpu)
        if word.strip().startswith("MIG-"):
            break  # CUDA uses one part of a GPU, the first that is named
    return found


def _named(gpus: list[Gpu], word: str) -> Gpu | None:
    if number := re.match(r"\+?[0-9]{1,9}", word):
        index = int(number[0])
        return gpus[index] if index < len(gpus) else None
    if word.startswith("MIG-"):  # of which GPU it is a part, its name need not say
        return next((gpu for gpu in gpus if gpu.uuid and gpu.uuid in word), gpus[0] if gpus else None)
    fitting = [gpu for gpu in gpus if word.startswith("GPU-") and gpu.uuid.startswith(word)]
    return fitting[0] if len(fitting) == 1 else None
