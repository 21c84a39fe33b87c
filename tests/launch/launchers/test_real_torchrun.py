"""Real torchrun on real nodes: its workers have the grace of the launch, its agents wait for who starts late."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.values.events import Event
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
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
# Torch asks for the names of its peers, and no name server is reached from these nodes.
NO_NAMES = {"RES_OPTIONS": "timeout:1 attempts:1"}


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


@pytest.mark.long
async def test_l7_who_comes_too_late_is_the_cause_and_is_replaced(network: Network, project: Path) -> None:
    """The agent of node rank 0 gives up first; it has only waited, and is not replaced for that."""
    need_torch()
    nodes = [network.start(name) for name in ("a", "slow", "spare")]
    (project / "train.py").write_text("print('trained')\n")
    seen: list[Event] = []
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts), observer=seen.append) as pool:
        for sshd in nodes:  # one whose Python takes its time
            late = "sleep 600" if sshd is nodes[1] else "true"
            script = sshd.home / "python"
            script.write_text(f'#!/bin/sh\n{late}\nexec {sys.executable} "$@"\n')
            script.chmod(0o755)
        launch = await ad.fan_out(
            [sshd.node for sshd in nodes[:2]],
            project,
            ad.Torchrun("train.py", nproc_per_node=1, python="../python", rendezvous_s=8, env=NO_NAMES),
            ad.SystemEnv(),
            restart=ad.Restart(),
            spares=nodes[2].node,
            grace_s=1,
            pool=pool,
        )
        report = await ad.wait_launch(launch, pool=pool)
    (note,) = notes(seen, "begins")
    assert "node rank 1 (slow) came too late" in note
    assert "spare takes the place of slow" in note
    assert [outcome.node.name for outcome in report] == ["a", "spare"]
    assert report.ok, report
