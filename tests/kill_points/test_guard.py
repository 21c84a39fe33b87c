"""A rank: its worker, keeper, supervisor and guard, each killed at any of its system calls, on real nodes."""

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import Account, SshdNode
from tests.support.kill_points import tracer
from tests.support.kill_points.client import SILENCE_S, line_of
from tests.support.kill_points.points import POINTS, SEED, Doom, Plan, Tally, spread, word_of
from tests.support.tools import need_root
from tests.support.trees import write
from tests.support.waiting import eventually

WITHIN_S = 60.0
HOLDERS = ("python3", "adeploy-keep", "adeploy-job", "adeploy-guard")
SHARE = 0.15
# A login shell: of the first session that finds a plan all processes are traced.
SHELL = """#!/bin/sh
if mv {now} {now}.$$ 2>/dev/null; then exec {python} -S {tracer} "$(cat {now}.$$)" /bin/sh "$@"; fi
exec /bin/sh "$@"
"""


@pytest.fixture
def nodes(start_sshd: Callable[..., SshdNode], tmp_path: Path) -> Sequence[SshdNode]:
    """Two, the second of which is doomed where somebody says so."""
    need_root()
    shell = tmp_path / "shell"
    shell.write_text(SHELL.format(now=tmp_path / "now", python=sys.executable, tracer=tracer.__file__))
    shell.chmod(0o755)
    return start_sshd("healthy"), start_sshd("doomed", account=Account(shell=str(shell)))


async def launch(nodes: Sequence[SshdNode], pool: ad.Pool, deployments: Sequence[ad.Deployment], name: str) -> str:
    """Start it, let its ranks end once all are up, and hear how."""
    ranks = ad.Ranks(line_of(name), nproc_per_node=1, name=name)
    try:
        started = await ad.start_launch(pool, deployments, ranks, grace_s=0.5, silence_s=SILENCE_S)
    except ad.DeployError as error:
        return word_of(error)
    try:
        await eventually(lambda: all((sshd.home / f"{name}-up").exists() for sshd in nodes), name, within_s=WITHIN_S)
    except AssertionError:
        raise AssertionError(f"started, and not all are up: {await ad.wait_launch(started, pool=pool)}") from None
    for sshd in nodes:
        (sshd.home / f"{name}-go").touch()
    report = await ad.wait_launch(started, pool=pool)
    assert report.ok, f"nobody had a reason to end them: {report}"
    return "all ranks ended well"


@pytest.mark.long
@pytest.mark.timeout(240 + 4 * POINTS)
async def test_j12_whoever_of_a_rank_s_holders_is_killed_it_ends_well_or_was_never_started(
    nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    dice, now = random.Random(SEED), tmp_path / "now"
    write(tmp_path / "proj", {"a": "a"})
    async with pool_for(nodes[0]) as pool:
        where = [sshd.node for sshd in nodes]
        deployments = (await ad.deploy_all(where, tmp_path / "proj", ad.SystemEnv(), pool=pool)).unwrap()

    async def play(plan: Plan, name: str) -> tuple[Doom, str]:
        doom = Doom(tmp_path, plan)
        now.write_text(str(doom.path))
        try:
            async with pool_for(nodes[0]) as pool:
                came = await launch(nodes, pool, deployments, name)
        except AssertionError as error:
            raise AssertionError(f"{plan}, {doom.hit()}, SEED={SEED}: {error}") from None
        for sshd in nodes:
            what = f"{plan}, {doom.hit()}, SEED={SEED}: {came}"
            await eventually(lambda sshd=sshd: not sshd.processes(), what, within_s=WITHIN_S)
        return doom, came

    doom, _ = await play(Plan("", 0), "counted")
    counted = await doom.counted(HOLDERS)
    assert {name for name, _ in counted} == set(HOLDERS), counted
    counted = {place: total for place, total in counted.items() if place[0] != "python3" or place[1] == "0"}  # no rank
    tally = Tally(f"a rank whose holders make {counted} calls, KILL")
    for (_, who), total in counted.items():
        for number, when in enumerate(spread(total, SHARE / len(counted), dice)):
            doom, came = await play(Plan(who, when), f"odd-{who.replace('.', '')}-{number:04}")
            tally.add(doom.hit(), came)
    tally.tell()
