"""Real torchrun on real nodes: its workers have the grace of the launch, its agents wait for who starts late."""

import sys
from collections.abc import Sequence
from pathlib import Path

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need_torch
from tests.support.waiting import eventually

SAVES = """\
import signal, sys, time

def save(*_):
    time.sleep(5)
    open("saved", "w").close()
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
open("up", "w").close()
while True:
    time.sleep(0.05)
"""


async def test_l8_torchruns_workers_have_the_whole_grace(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    need_torch()
    (project / "train.py").write_text(SAVES)
    sshd = sshd_nodes[0]
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd.known_hosts)) as pool:
        launcher = ad.Torchrun("train.py", nproc_per_node=1, python=sys.executable)
        launch = await ad.fan_out(sshd.node, project, launcher, ad.SystemEnv(), grace_s=25, pool=pool)
        await eventually(lambda: (sshd.home / "project" / "up").exists(), "it is up", within_s=100)
        await ad.stop_launch(launch, pool=pool)
    assert (sshd.home / "project" / "saved").exists()
