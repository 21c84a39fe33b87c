"""How often we wait for a node before we can go on: on a link of 100 ms that is what a person waits for.

docs/how-it-works.md says what travels in each. The numbers are of real sshd and ed25519 keys; where one grows, a wait
has come back.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import asyncdeploy as ad
from tests.support.beds.far_away import far_away
from tests.support.beds.sshd_node import SshdNode


async def test_round_trips(sshd_nodes: Sequence[SshdNode], project: Path, tmp_path: Path) -> None:
    (project / "a.py").write_text("print(1)\n")
    seen: list[int] = []
    async with far_away(sshd_nodes[:2], tmp_path) as lines, lines.pool() as pool:
        (await ad.run_all(lines.nodes, "true", pool=pool)).unwrap()
        seen.append(lines.heard)
        (await ad.run_all(lines.nodes, "true", pool=pool)).unwrap()
        seen.append(lines.heard)
        workspace = ad.Workspace(project, remote_path="~/project")
        (await ad.push_all(lines.nodes, workspace, pool=pool)).unwrap()
        seen.append(lines.heard)
        (await ad.push_all(lines.nodes, workspace, pool=pool)).unwrap()
        seen.append(lines.heard)
    first, second, push, unchanged = (after - before for before, after in pairwise([0, *seen]))
    assert (first, second, push, unchanged) == (6, 1, 2, 1)


async def test_round_trips_of_a_launch(sshd_nodes: Sequence[SshdNode], project: Path, tmp_path: Path) -> None:
    (project / "a.py").write_text("print(1)\n")
    seen = [0]
    async with far_away(sshd_nodes[:2], tmp_path) as lines, lines.pool() as pool:
        for _ in range(2):
            workspace = ad.Workspace(project, remote_path="~/project")
            launcher = ad.Ranks("true", nproc_per_node=1)
            launch = await ad.fan_out(lines.nodes, workspace, launcher, ad.SystemEnv(), pool=pool)
            seen.append(lines.heard)
            (await ad.wait_launch(launch, pool=pool)).unwrap()
            seen.append(lines.heard)
    first, waiting, second, _ = (after - before for before, after in pairwise(seen))
    assert (first, waiting, second) == (13, 1, 6)
