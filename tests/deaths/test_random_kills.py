"""Kills at random of anything on the table of deaths: no orphan, no lost end, no false word, nobody stopped in vain.

Three nodes with real sshd run jobs, attached runs, launches of plain lines and of real torchrun, each started by a
client in a process of its own. ASYNCDEPLOY_KILLS says how often something dies; 300 is the number to try before a
release. The seed is printed; ASYNCDEPLOY_SEED plays it again, and each case has its own: first + number.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths.case import Case
from tests.support.tools import need_torch

KILLS = int(os.environ.get("ASYNCDEPLOY_KILLS") or 6)
SEED = int(os.environ.get("ASYNCDEPLOY_SEED") or random.randrange(1 << 30))
# Signs of life are often here, so that a silence may be short.
CONFIG: dict[str, object] = {"SetEnv": "ASYNCDEPLOY_SILENCE_S=4"}
# Most of a case is waiting: two are played at a time.
LANES = 2 if KILLS > 1 else 1
# A launch of torchrun takes 10 s to come up here.
KINDS = ("run", "job", "job", "ranks", "ranks", "ranks", "ranks", "torchrun")
TRAIN = """\
import pathlib, sys, time
import torch.distributed as dist

dist.init_process_group("gloo")
folder = pathlib.Path.home() / sys.argv[1]
folder.mkdir(exist_ok=True)
(folder / "up").touch()
while not (folder / "go").exists():
    time.sleep(0.05)
(folder / "end").write_text("0")
dist.destroy_process_group()
"""


@attrs.define
class Played:
    """How many have died, and which case is the next one."""

    seed: int
    kills: int = 0


@pytest.mark.timeout(120 + 15 * KILLS)
@pytest.mark.long
async def test_random_kills(network: Network, project: Path, hasty: None) -> None:
    need_torch()
    (project / "train.py").write_text(TRAIN)
    nodes = [network.start(f"machine-{number}", config=CONFIG) for number in range(3 * LANES)]
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
        deployed = await ad.deploy_all([sshd.node for sshd in nodes], project, ad.SystemEnv(), pool=pool)
    print(f"ASYNCDEPLOY_SEED={SEED}")
    played = Played(SEED)
    async with asyncio.TaskGroup() as group:
        for first in range(0, len(nodes), 3):
            here = slice(first, first + 3)
            group.create_task(play(played, nodes[here], network, deployed.unwrap()[here]))


async def play(
    played: Played, nodes: Sequence[SshdNode], network: Network, deployments: Sequence[ad.Deployment]
) -> None:
    """Play one case after another on three of the nodes."""
    while played.kills < KILLS:
        case = Case(played.seed, nodes, network, deployments, KINDS)
        played.seed += 1
        began = time.monotonic()
        died = await case.play()
        played.kills += died
        print(f"{played.kills}: {case}: {time.monotonic() - began:.1f} s")
