"""A client that is killed at any step of its loop, any write to a connection, any call of its file system."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.kill_points import client
from tests.support.kill_points.clients import WITHIN_S, Clients, clients, total_of
from tests.support.kill_points.points import POINTS, SEED, Tally, spread
from tests.support.results import parts, tree as results_of
from tests.support.trees import change_files, tree, write
from tests.support.waiting import eventually

SHARE = 0.25  # of all points, to each of the four


@pytest.mark.long
@pytest.mark.timeout(180 + 2 * POINTS)
async def test_e4_a_push_leaves_the_old_tree_or_the_new_one(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    async with clients(sshd_nodes[:1], tmp_path) as bed:
        site = sshd_nodes[0].home / "proj"
        change_files(bed.source, bed.dice)
        doom = await bed.play("push", 0)
        total = await total_of(doom)
        tally = Tally(f"a client that makes {total} calls for a push, KILL")
        for when in spread(total, SHARE, bed.dice):
            before = tree(site)
            change_files(bed.source, bed.dice)
            doom = await bed.play("push", when)
            what = f"call {when}, {doom.hit()}, SEED={SEED}"
            await bed.settled(what)
            after, wanted = tree(site), tree(bed.source)
            assert after in (before, wanted), what
            assert not (site / ".asyncdeploy/journal").exists(), what
            tally.add(doom.hit(), "the old tree" if after == before else "the new tree")
            await bed.deployed()
            assert tree(site) == wanted, what
            assert not list((site / ".asyncdeploy/staging").iterdir()), what
    tally.tell()


@pytest.mark.long
@pytest.mark.timeout(180 + 2 * POINTS)
async def test_a_deploy_leaves_a_whole_environment_or_the_one_before(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    nodes = sshd_nodes[:2]
    async with clients(nodes, tmp_path) as bed:
        write(bed.source, {"version": "v0"})
        doom = await bed.play("deploy", 0, version="v0")
        total = await total_of(doom)
        tally = Tally(f"a client that makes {total} calls for a deploy to two nodes, KILL")
        for number, when in enumerate(spread(total, SHARE, bed.dice), 1):
            version, last = f"v{number}", f"v{number - 1}"
            write(bed.source, {"version": version})
            doom = await bed.play("deploy", when, version=version)
            what = f"call {when}, {doom.hit()}, SEED={SEED}"
            await bed.settled(what)
            made = [(sshd.home / "proj/.made").read_text().strip() for sshd in nodes]
            pushed = [(sshd.home / "proj/version").read_text() for sshd in nodes]
            for each, tree_ in zip(made, pushed, strict=True):
                assert (each, tree_) in ((last, last), (last, version), (version, version)), what
            tally.add(doom.hit(), f"{made.count(version)} of 2 are made")
            env, where = client.env_of(version), [sshd.node for sshd in nodes]
            (await ad.deploy_all(where, bed.source, env, pool=bed.pool)).unwrap()
            for sshd in nodes:
                there = [(sshd.home / "proj" / file).read_text().strip() for file in (".made", "version")]
                assert there == [version, version], what
    tally.tell()


@pytest.mark.long
@pytest.mark.timeout(180 + 4 * POINTS)
async def test_a_launch_has_all_its_ranks_or_none(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    nodes = sshd_nodes[:2]
    async with clients(nodes, tmp_path) as bed:
        deployments = [each.to_dict() for each in await bed.deployed()]

        def told(name: str) -> dict[str, Any]:
            return {"name": name, "deployments": deployments, "go": [str(sshd.home / f"{name}-go") for sshd in nodes]}

        doom = await bed.play("launch", 0, **told("counted"))
        total = await total_of(doom)
        await bed.settled("the first one")
        tally = Tally(f"a client that makes {total} calls for a launch on two nodes, KILL")
        for number, when in enumerate(spread(total, SHARE, bed.dice)):
            name = f"odd-{number:04}"
            doom = await bed.play("launch", when, **told(name))
            what = f"{name}: call {when}, {doom.hit()}, SEED={SEED}"
            tally.add(doom.hit(), await judged(bed, name, what))
            await bed.settled(what)
    tally.tell()


async def judged(bed: Clients, name: str, what: str) -> str:
    """Which of a launch's ranks there are, and that they end as they must."""

    def there(word: str) -> list[bool]:
        return [(sshd.home / f"{name}-{word}").exists() for sshd in bed.nodes]

    await eventually(lambda: all(there("up")) or bed.quiet(), f"all are up, or nobody: {what}", within_s=WITHIN_S)
    all_up = all(there("up"))
    for sshd in bed.nodes:
        (sshd.home / f"{name}-go").touch()
    jobs = []
    for sshd in bed.nodes:
        remote = bed.pool.at(sshd.node)
        mine = [job for job in await ad.list_jobs(remote) if job.name.startswith(name)]
        jobs += [(job, await ad.wait_job(remote, job, timeout_s=WITHIN_S)) for job in mine]
    assert all(status.ended for _, status in jobs), f"{what}: {jobs}"
    if all_up:
        assert [status.exit_status for _, status in jobs] == [0, 0], f"{what}: {jobs}"
        assert there("end") == [True, True], what
        return "all ranks ended well"
    assert not any(status.ok for _, status in jobs), f"{what}: {jobs}"
    assert not any(there("end")), what
    return f"{len(jobs)} ranks were begun, and none ended well" if jobs else "none was begun"


@pytest.mark.long
@pytest.mark.timeout(180 + 2 * POINTS)
async def test_d13_a_collect_leaves_whole_files(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    nodes, target = sshd_nodes[:2], tmp_path / "home"
    numbers = itertools.count()
    versions: list[dict[bytes, object]] = [{}]

    def change() -> None:
        """Files that grow or shrink, that change, that are new at first."""
        number = next(numbers)
        files = {f"d{each}/f": bed.dice.randbytes(30_000) for each in range(4)}
        files |= {"log": b"line\n" * 20_000 * (1 + number % 5), f"new/{number % 3}": b"%d" % number}
        for sshd in nodes:
            write(sshd.home / "out", files)
        versions[:] = [versions[-1], results_of(nodes[0].home / "out")]

    async with clients(nodes, tmp_path) as bed:
        deployments = await bed.deployed()
        told = {"deployments": [each.to_dict() for each in deployments], "target": str(target)}
        for _ in range(4):  # what is here already is looked at, too
            change()
            doom = await bed.play("collect", 0, **told)
        total = await total_of(doom)
        tally = Tally(f"a client that makes {total} calls for a collect from two nodes, KILL")
        for when in spread(total, SHARE, bed.dice):
            change()
            doom = await bed.play("collect", when, **told)
            what = f"call {when}, {doom.hit()}, SEED={SEED}"
            await bed.settled(what)
            came = 0
            for folder in target.iterdir():
                for name, content in results_of(folder).items():
                    if content is not None and b".asyncdeploy-" not in name:
                        assert content in (versions[-2].get(name), versions[-1].get(name)), f"{what}: {name!r} is torn"
                        came += content == versions[-1].get(name) and content != versions[-2].get(name)
            tally.add(doom.hit(), "all came" if came == 12 else "some came" if came else "none came")
            (await ad.collect_all(deployments, "~/out", target, pool=bed.pool)).unwrap()
            for folder in target.iterdir():
                assert results_of(folder) == versions[-1], what
                assert not parts(folder), what
    tally.tell()
