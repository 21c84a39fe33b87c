"""How often we wait for a node before we can go on: on a link of 100 ms that is what a person waits for.

docs/how-it-works.md says what travels in each. The numbers are of real sshd and ed25519 keys; where one grows, a wait
has come back. A machine that is busy adds some (what was sent in one flight then goes in two) and takes none away, so
the fewest of some tries count, and one or two more are the machine's.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path

import asyncdeploy as ad
from asyncdeploy.connect.pool import Pool
from tests.support.beds.far_away import Lines, far_away
from tests.support.beds.sshd_node import SshdNode

TRIES = 5
BUSY = 2
Story = Callable[[Lines, Pool, str], Awaitable[list[int]]]
"""What is done with these nodes, over this pool, in a folder of this name; how many round trips there had been when."""


async def check(story: Story, wanted: tuple[int, ...], machines: Sequence[SshdNode], folder: Path) -> None:
    """The least of each step in some tries, which end when all are as few as they should be, is hardly more."""
    least: tuple[int, ...] = (1000,) * len(wanted)
    for number in range(TRIES):
        async with far_away(machines, folder) as lines, lines.pool() as pool:
            seen = await story(lines, pool, f"~/project-{number}")
        steps = [after - before for before, after in pairwise([0, *seen])]
        least = tuple(map(min, least, steps))
        if least == wanted:
            break
    assert all(0 < few <= most + BUSY for few, most in zip(least, wanted, strict=True)), least


async def test_round_trips(sshd_nodes: Sequence[SshdNode], project: Path, tmp_path: Path) -> None:
    (project / "a.py").write_text("print(1)\n")

    async def story(lines: Lines, pool: Pool, folder: str) -> list[int]:
        seen = []
        for _ in ("first command", "second command"):
            (await ad.run_all(lines.nodes, "true", pool=pool)).unwrap()
            seen.append(lines.heard)
        for _ in ("push", "push of what is there"):
            (await ad.push_all(lines.nodes, ad.Workspace(project, remote_path=folder), pool=pool)).unwrap()
            seen.append(lines.heard)
        return seen

    await check(story, (6, 1, 2, 1), sshd_nodes[:2], tmp_path)


async def test_round_trips_of_a_launch(sshd_nodes: Sequence[SshdNode], project: Path, tmp_path: Path) -> None:
    (project / "a.py").write_text("print(1)\n")

    async def story(lines: Lines, pool: Pool, folder: str) -> list[int]:
        seen = []
        for _ in ("first", "second"):
            workspace, launcher = ad.Workspace(project, remote_path=folder), ad.Ranks("true", nproc_per_node=1)
            launch = await ad.fan_out(lines.nodes, workspace, launcher, ad.SystemEnv(), pool=pool)
            seen.append(lines.heard)
            (await ad.wait_launch(launch, pool=pool)).unwrap()
            seen.append(lines.heard)
        return seen

    await check(story, (13, 1, 6, 1), sshd_nodes[:2], tmp_path)
