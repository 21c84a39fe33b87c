"""The nodes of the Slurm job in which we run: slurm_nodes, slurm_until. Pure text, nothing is asked of Slurm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import attrs

from asyncdeploy.nodes.names import shown
from asyncdeploy.nodes.parse import MAX_NODES, Node, parse_nodes
from asyncdeploy.values.regex import regex

_COUNTED = regex(r"([1-9][0-9]{0,5})(?:\(x([1-9][0-9]{0,5})\))?")
_NUMBER = regex(r"[0-9]{1,12}")


def slurm_nodes(
    environ: Mapping[str, str] | None = None,
    *,
    jump: Node | str | None = None,
    connect: Literal["ssh", "srun"] = "ssh",
) -> tuple[Node, ...]:
    """Return the nodes of the Slurm job in which we run, in Slurm's order, which is their node rank; 10,000 at most.

    Args:
        environ: where SLURM_JOB_NODELIST stands; None is our own environment.
        jump: the node through which they are reached, the login node mostly.
        connect: "srun" where ssh to compute nodes is closed: srun carries everything, run on ``jump`` or, without one,
            here, inside the job.

    Returns:
        A node for each name. ``slots`` are the GPUs that the job has on this node (SLURM_GPUS_ON_NODE, which Slurm
        says of this node alone), else the tasks that it was given on each (SLURM_TASKS_PER_NODE), else not said.

    Raises:
        ValueError: no SLURM_JOB_NODELIST (for srun no SLURM_JOB_ID), or a variable is not what Slurm writes.

    The variables are those of Slurm's srun manual page. Where pam_slurm_adopt lets nobody but root to a node without
    a job on it, ssh works until the job ends, and everything that we started ends with it.
    """
    said = os.environ if environ is None else environ
    names = said.get("SLURM_JOB_NODELIST") or said.get("SLURM_NODELIST")
    if not names:
        raise ValueError(
            "slurm_nodes: SLURM_JOB_NODELIST was expected in the environment, which Slurm sets inside a job: "
            "run this below sbatch, salloc or srun"
        )
    try:
        nodes = parse_nodes(names, jump=jump)
    except ValueError as error:
        raise ValueError(f"SLURM_JOB_NODELIST {shown(names)}: {error}") from None
    job = _job(said) if check_connect("slurm_nodes", connect) == "srun" else None
    slots = _slots(said, len(nodes))
    return tuple(attrs.evolve(node, slots=count, slurm_job=job) for node, count in zip(nodes, slots, strict=True))


def slurm_until(environ: Mapping[str, str] | None = None) -> float | None:
    """Return when the Slurm job in which we run ends, in seconds since 1970; None where Slurm does not say.

    Args:
        environ: where SLURM_JOB_END_TIME stands; None is our own environment.

    Raises:
        ValueError: it is no number.
    """
    text = (os.environ if environ is None else environ).get("SLURM_JOB_END_TIME", "")
    if text and not _NUMBER.fullmatch(text):
        raise ValueError(f"SLURM_JOB_END_TIME: seconds since 1970 were expected, got {shown(text)}")
    return float(text) if text else None


def check_connect(what: str, connect: object) -> object:
    """Return how nodes are to be reached.

    Raises:
        ValueError: it is neither "ssh" nor "srun".
    """
    if connect not in ("ssh", "srun"):
        raise ValueError(f'{what} connect: "ssh" or "srun" was expected, got {shown(connect)}')
    return connect


def _job(said: Mapping[str, str]) -> int:
    text = said.get("SLURM_JOB_ID") or said.get("SLURM_JOBID") or ""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"SLURM_JOB_ID: the number of the job was expected, for srun, got {shown(text)}")
    return int(text)


def _slots(said: Mapping[str, str], count: int) -> list[int | None]:
    gpus = said.get("SLURM_GPUS_ON_NODE", "")
    if gpus and not _NUMBER.fullmatch(gpus):
        raise ValueError(f"SLURM_GPUS_ON_NODE: a whole number was expected, got {shown(gpus)}")
    if gpus and int(gpus) > 0:
        return [int(gpus)] * count
    tasks = said.get("SLURM_TASKS_PER_NODE", "")
    return [*_read_tasks(tasks, count)] if tasks else [None] * count


def _read_tasks(text: str, count: int) -> list[int]:
    """Read "2(x3),1": three nodes with two tasks, then one with one."""
    found: list[int] = []
    for part in text.split(","):
        match = _COUNTED.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"SLURM_TASKS_PER_NODE: numbers such as 2(x3),1 were expected, got {shown(text)}")
        found += [int(match[1])] * min(int(match[2] or 1), MAX_NODES)
        if len(found) > count:
            break
    if len(found) != count:
        raise ValueError(f"SLURM_TASKS_PER_NODE {shown(text)}: numbers for the job's {count} nodes were expected")
    return found
