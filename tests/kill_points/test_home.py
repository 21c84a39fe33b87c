"""A collect whose target at home lies on a disk that is full, refuses once, or is broken, at any call made there."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.kill_points.clients import clients, error_of, total_of
from tests.support.kill_points.points import ALL, CHANGES, GROWS, POINTS, SEED, Doom, Plan, Tally, spread, word_of
from tests.support.results import parts, tree as results_of
from tests.support.trees import write

FAULTS = [
    pytest.param("ENOSPC", GROWS, True, id="full"),
    pytest.param("ENOSPC", CHANGES, False, id="refused"),
    pytest.param("EIO", ALL, False, id="broken"),
]
SHARE = 0.03


def change(nodes: Sequence[SshdNode], dice: random.Random) -> dict[bytes, object]:
    """Results of another time; what they are."""
    files = {f"d{each}/f": dice.randbytes(30_000) for each in range(3)} | {"log": dice.randbytes(200_000)}
    for sshd in nodes:
        write(sshd.home / "out", files)
    return results_of(nodes[0].home / "out")


@pytest.mark.long
@pytest.mark.timeout(180 + POINTS)
@pytest.mark.parametrize("error, calls, on", FAULTS)
async def test_d12_whole_files_at_home_or_a_clear_word(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path, error: str, calls: tuple[str, ...], on: bool
) -> None:
    nodes, target = sshd_nodes[:2], tmp_path / "results" / "home"
    async with clients(nodes, tmp_path) as bed:
        deployments = await bed.deployed()
        told = {"deployments": [each.to_dict() for each in deployments], "target": str(target)}
        for _ in range(2):  # the first one makes folders
            doom = Doom(tmp_path, Plan("0", 0, calls, str(target), error, ours=False))
            now = change(nodes, bed.dice)
            await bed.send("collect", doom, told)
        total = await total_of(doom)
        tally = Tally(f"a collect that makes {total} calls at home, {error}{' from then on' if on else ''}")
        for when in spread(total, SHARE, bed.dice):
            plan = Plan("0", when, calls, str(target), error, on, ours=False)
            doom, before, now = Doom(tmp_path, plan), now, change(nodes, bed.dice)
            code = await bed.send("collect", doom, told)
            what = f"{plan}, which was {doom.hit()}; SEED={SEED}"
            for folder in target.iterdir():
                for name, content in results_of(folder).items():
                    if content is not None and b".asyncdeploy-" not in name:
                        assert content in (before.get(name), now.get(name)), f"{what}: {name!r} is torn"
                assert code or results_of(folder) == now, what
            tally.add(doom.hit(), word_of(error_of(doom)) if code else "all came")
            await bed.settled(what)
            (await ad.collect_all(deployments, "~/out", target, pool=bed.pool)).unwrap()
            for folder in target.iterdir():
                assert results_of(folder) == now, what
                assert not parts(folder), what
    tally.tell()
