"""A push by way of other nodes, one of which is killed at any of its calls: it is told as failed, others end well."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.crew import Crew
from tests.support.kill_points.points import POINTS, SEED, Doom, Plan, Tally, belonging, settled, spread, word_of
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import tree, write

NODES = 4
BLOCKS = 8
SHARE = 0.1


def change(source: Path, dice: random.Random) -> None:
    """Files of which each is a block or more on its way."""
    write(source, {f"part-{number}": dice.randbytes(400_000) for number in range(BLOCKS)})


async def push(source: Path, homes: Sequence[Path], doomed: int, doom: Doom) -> list[object]:
    """Push to all at once over fresh lines; what came of each."""
    async with AsyncExitStack() as stack:
        remotes = []
        for number, home in enumerate(homes):
            shell = doom.shell if number == doomed else ("sh", "-c")
            remotes.append(await stack.enter_async_context(ShellRemote(home, shell=shell, name=home.name)))
            remotes[-1].env["SSH_CONNECTION"] = "127.0.0.1 1 127.0.0.1 22"
        bundle = await stack.enter_async_context(pack_workspace(source))
        crew = Crew(bundle, "on", [home.name for home in homes], len(homes))
        return await asyncio.gather(*(push_code(remote, crew) for remote in remotes), return_exceptions=True)


@pytest.mark.long
@pytest.mark.timeout(120 + POINTS)
async def test_g9_the_others_end_well_and_it_is_told_as_failed(tmp_path: Path) -> None:
    dice, source = random.Random(SEED), tmp_path / "proj"
    homes = [tmp_path / f"node-{number}" for number in range(NODES)]
    change(source, dice)
    await push(source, homes, 0, Doom(tmp_path, Plan("", 0)))
    change(source, dice)
    doom = Doom(tmp_path, Plan("", 0))
    await push(source, homes, 0, doom)
    total = (await doom.counted(["python3"]))["python3", "0"]
    tally = Tally(f"a receiver of {NODES} that makes {total} calls while it passes blocks on, KILL")
    for number, when in enumerate(spread(total, SHARE, dice)):
        doomed = number % NODES
        before = tree(homes[doomed] / "proj")
        change(source, dice)
        wanted = tree(source)
        doom = Doom(tmp_path, Plan("0", when))
        async with asyncio.timeout(60):
            came = await push(source, homes, doomed, doom)
        what = f"node {doomed} is killed at call {when}, {doom.hit()}; SEED={SEED}: {came}"
        for home in homes:
            await settled(home, (), what)
        for place, (home, each) in enumerate(zip(homes, came, strict=True)):
            if place != doomed or not doom.hit():
                assert isinstance(each, ad.Site), what
                assert tree(home / "proj") == wanted, what
            else:
                assert isinstance(each, ad.ConnectionLost), what
                assert tree(home / "proj") in (before, wanted) or (home / "proj/.asyncdeploy/journal").exists(), what
        mine = came[doomed]
        tally.add(doom.hit(), word_of(mine) if isinstance(mine, ad.DeployError) else "all pushed")
        assert all(isinstance(each, ad.Site) for each in await push(source, homes, doomed, Doom(tmp_path, Plan("", 0))))
        assert [tree(home / "proj") for home in homes] == [wanted] * NODES, what
        assert not [line for home in homes for line in belonging(home)], what
    tally.tell()
