"""TERM means save (J15, L8): a real trainer that takes 5 s for its checkpoint, with DataLoader workers, has them."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment, start_in_project
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import stop_launch
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.run.jobs import stop_job
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need_torch
from tests.support.waiting import eventually

TRAIN = """
import os, pathlib, signal, sys, time
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, index):
        time.sleep(0.02)
        return index

terms = []
signal.signal(signal.SIGTERM, lambda *_: terms.append(time.monotonic()))
rank = os.environ.get("RANK", "0")
taken = 0
for _ in DataLoader(Data(), num_workers=2):
    taken += bool(terms)
    pathlib.Path(f"trains-{rank}").touch()
    if terms and time.monotonic() - terms[0] > 5:
        pathlib.Path(f"saved-{rank}").write_text(f"{len(terms)} {taken}")
        sys.exit(0)
"""


@pytest.fixture
async def deployed(pool: Pool, sshd_nodes: Sequence[SshdNode], project: Path) -> Deployment:
    need_torch()
    (project / "train.py").write_text(TRAIN)
    report = await deploy_all(sshd_nodes[0].node, Workspace(project, remote_path="~/saves"), SystemEnv(), pool=pool)
    return report.unwrap()[0]


def saved(deployed: Deployment, rank: int) -> tuple[int, int]:
    """How many TERMs a rank had, and how many batches its helpers gave it after the first."""
    terms, taken = (Path(deployed.site.path) / f"saved-{rank}").read_text().split()
    return int(terms), int(taken)


@pytest.mark.parametrize(
    "launcher",
    [
        Torchrun("train.py", nproc_per_node=2, python=sys.executable),
        Ranks(f"{sys.executable} train.py", nproc_per_node=2),
    ],
    ids=["torchrun", "ranks"],
)
@pytest.mark.long
async def test_ranks_save_with_their_helpers_alive(pool: Pool, deployed: Deployment, launcher: Launcher) -> None:
    launch = await start_launch(pool, [deployed], launcher, grace_s=25)
    site = Path(deployed.site.path)
    await eventually(lambda: len(list(site.glob("trains-*"))) == 2, "both train", within_s=90)
    await stop_launch(launch, pool=pool)
    for rank in range(2):
        terms, taken = saved(deployed, rank)
        assert terms == 1
        assert taken > 10, "its helpers went on"


async def test_a_job_saves_with_its_helpers_alive(pool: Pool, deployed: Deployment) -> None:
    job = await start_in_project(pool, deployed, f"{sys.executable} train.py | cat", name="train")
    site = Path(deployed.site.path)
    await eventually((site / "trains-0").exists, "it trains", within_s=90)
    async with asyncio.timeout(60):
        status = await stop_job(pool.at(deployed.node), job, grace_s=25)
    assert (status.state, status.exit_status, status.survivors) == ("exited", 0, ())
    terms, taken = saved(deployed, 0)
    assert terms == 1
    assert taken > 10, "its helpers went on"
