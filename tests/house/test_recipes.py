"""Every recipe with the program that it is for, over two real sshd nodes; heavy ones only where they are installed."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.launch import fan_out, follow_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.root_cause.describe import describe_failure
from tests.support.beds.sshd_node import SshdNode
from tests.support.examples import OurPython, example
from tests.support.places import EXAMPLES

GATHER = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
value = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(value)
print("sum", int(value), "of", dist.get_world_size(), flush=True)
dist.barrier()
dist.destroy_process_group()
"""
ACCELERATE = """
import torch
from accelerate import Accelerator
here = Accelerator(cpu=True)
value = here.reduce(torch.ones(1) * (here.process_index + 1))
print("sum", int(value), "of", here.num_processes, flush=True)
here.end_training()
"""
LIGHTNING = """
import os, torch
from lightning.fabric import Fabric
devices, nodes = int(os.environ["ASYNCDEPLOY_GPUS_PER_NODE"]), int(os.environ["ASYNCDEPLOY_NUM_NODES"])
fabric = Fabric(accelerator="cpu", devices=devices, num_nodes=nodes, strategy="ddp")
fabric.launch()
value = fabric.all_reduce(torch.ones(1) * (fabric.global_rank + 1), reduce_op="sum")
print("sum", int(value), "of", fabric.world_size, flush=True)
fabric.barrier()
torch.distributed.destroy_process_group()  # gloo aborts now and then where it is left to the interpreter's end
"""
MPI = """
import os
rank, size, local = (int(os.environ["OMPI_COMM_WORLD_" + name]) for name in ("RANK", "SIZE", "LOCAL_RANK"))
assert (rank % 2, size) == (local, 4)
print("sum", 10, "of", size)
"""


def recipe(name: str, function: str) -> Any:
    """The function of a recipe."""
    return getattr(example(f"recipes/{name}"), function)


def needs(package: str) -> None:
    """Give up without it; no part of the test dependencies, also in CI: each is far larger than all of ours."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}, which is too large for the test dependencies")


async def said(pool: Pool, nodes: Sequence[SshdNode], project: Path, ranks: Ranks) -> list[str]:
    """Run it on two nodes; return the sums that were printed."""
    launch = await fan_out([sshd.node for sshd in nodes[:2]], project, ranks, OurPython(), grace_s=1, pool=pool)
    async with follow_launch(launch, pool=pool) as lines:
        texts = [line.text async for line in lines]
    failure = lines.failure
    assert failure is None, describe_failure(failure)
    assert lines.report is not None
    assert lines.report.ok, [str(outcome.error) for outcome in lines.report.failures]
    return [found[1] for text in texts if (found := re.search(r"sum (\d+ of \d+)$", text))]


async def test_mpi_style(sshd_nodes: Sequence[SshdNode], pool: Pool, project: Path) -> None:
    (project / "train.py").write_text(MPI)
    ranks = recipe("with_mpi_variables", "mpi_style")("python train.py", nproc_per_node=2)
    assert await said(pool, sshd_nodes, project, ranks) == ["10 of 4"] * 4


async def test_accelerate(sshd_nodes: Sequence[SshdNode], pool: Pool, project: Path) -> None:
    needs("accelerate")
    (project / "train.py").write_text(ACCELERATE)
    ranks = recipe("with_accelerate", "accelerate")("train.py", nproc_per_node=2)
    assert await said(pool, sshd_nodes, project, ranks) == ["10 of 4"] * 4


async def test_deepspeed(sshd_nodes: Sequence[SshdNode], pool: Pool, project: Path) -> None:
    needs("deepspeed")
    (project / "train.py").write_text(GATHER)
    ranks = recipe("with_deepspeed", "deepspeed")("train.py", nproc_per_node=2)
    assert await said(pool, sshd_nodes, project, ranks) == ["10 of 4"] * 4


async def test_lightning(sshd_nodes: Sequence[SshdNode], pool: Pool, project: Path) -> None:
    needs("lightning")
    (project / "train.py").write_text(LIGHTNING)
    ranks = recipe("with_lightning", "lightning")("train.py", nproc_per_node=2)
    assert await said(pool, sshd_nodes, project, ranks) == ["10 of 4"] * 4


def test_recipes_are_short() -> None:
    for path in (EXAMPLES / "recipes").glob("*.py"):
        code = [line for line in path.read_text().partition('"""\n\n')[2].splitlines() if line.strip()]
        assert len(code) <= 20, path.name
