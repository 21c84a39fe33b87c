"""What was asked for and is not at home makes a collect fail, with what came inside, unless it is allowed."""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.deploy import Deployment, collect_results
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.report import FleetError
from asyncdeploy.values.events import StageFailed
from asyncdeploy.values.workspace import Collected, CollectIncomplete
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.results import tree, write

CHANGED = "it changed while it was read"
WRITES = """
import os, sys, time
with open(sys.argv[1], "r+b", 0) as file:
    while True:
        os.pwrite(file.fileno(), os.urandom(8), 0)
        print(flush=True)
        time.sleep(0.001)
"""


async def _deployed(cluster: LocalCluster, project: Path) -> tuple[Deployment, ...]:
    async with cluster.pool() as pool:
        return (await deploy_all(cluster.nodes, project, SystemEnv(), pool=pool)).unwrap()


@asynccontextmanager
async def written_anew(path: Path) -> AsyncIterator[None]:
    """Keep writing a file's beginning anew, by a process of its own."""
    words = (sys.executable, "-c", WRITES, str(path))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    reading = asyncio.create_task(process.stdout.read())
    try:
        yield
    finally:
        process.kill()
        await process.wait()
        await reading


async def test_p10_a_file_that_changed_while_it_was_read_is_missed(tmp_path: Path, project: Path) -> None:
    """best.pt is written anew while it is sent, as a training does: it is not at home, and nobody says it is."""
    home = tmp_path / "home"
    async with LocalCluster(2) as cluster, cluster.pool() as pool:
        deployments = await _deployed(cluster, project)
        sites = [Path(deployment.site.path) for deployment in deployments]
        for site in sites:
            write(site, {"out/a.log": "log"})
        best = sites[1] / "out/best.pt"
        best.write_bytes(bytes(60_000_000))
        async with written_anew(best):
            report = await collect_all(deployments, "out", home, pool=pool)
        assert [outcome.state for outcome in report] == ["ok", "failed"]
        with pytest.raises(FleetError, match=rf"out is not all at home: 1 left behind, first best\.pt: {CHANGED}"):
            report.unwrap()
        came = report["local-1"].value
        assert isinstance(came, Collected)
        assert (came.files, came.missing, came.skipped) == (1, 1, (("best.pt", CHANGED),))
        here = {b"0-local-0": None, b"0-local-0/a.log": b"log", b"1-local-1": None, b"1-local-1/a.log": b"log"}
        assert tree(home) == here
        (await collect_all(deployments, "out", home, pool=pool)).unwrap()  # now that nobody writes it comes
        assert tree(home) == here | {b"1-local-1/best.pt": best.read_bytes()}


async def test_p10_the_rule_is_the_same_for_every_collect(tmp_path: Path, project: Path) -> None:
    async with LocalCluster(1) as cluster, cluster.pool() as pool:
        (deployment,) = await _deployed(cluster, project)
        write(Path(deployment.site.path), {"out/a": "a"})
        (Path(deployment.site.path) / "out/link").symlink_to("/etc/passwd")
        path, node = f"{deployment.site.path}/out", deployment.node
        with pytest.raises(CollectIncomplete, match="link: a link that may lead out") as by_sync:
            await sync_results(pool.at(node), path, tmp_path / "sync")
        with pytest.raises(CollectIncomplete, match="link: a link that may lead out") as by_results:
            await collect_results(pool, deployment, "out", tmp_path / "results")
        report = await collect_all([deployment], "out", tmp_path / "all", pool=pool)
        mapped = await map_nodes(node, lambda node: sync_results(pool.at(node), path, tmp_path / "mapped"))
        for error in (by_sync.value, by_results.value, report[node].error, mapped[node].error):
            assert isinstance(error, CollectIncomplete)
            assert (error.missing, error.path, error.collected.files) == (1, path, 1)
        assert report[node].value is not None
        assert mapped[node].value is not None
        part = await sync_results(pool.at(node), path, tmp_path / "sync", allow_partial=True)
        assert part == await collect_results(pool, deployment, "out", part.target, allow_partial=True)
        allowed = await collect_all([deployment], "out", tmp_path / "all", allow_partial=True, pool=pool)
        assert [done.complete for done in allowed.unwrap()] == [part.complete] == [False]


async def test_p10_what_was_not_asked_for_is_not_missed(remote: ShellRemote, out: Path, home: Path) -> None:
    """Patterns and a size that the caller named are what he asks for; a budget that is used up is not."""
    write(out, {"a": "a", "large": "x" * 100, "skipped.tmp": "x"})
    done = await sync_results(remote, "~/out", home, limits=CollectLimits(max_file_bytes=99, exclude="*.tmp"))
    assert (done.complete, done.missing, done.skipped) == (True, 0, (("large", "larger than 99 bytes"),))
    with pytest.raises(CollectIncomplete) as caught:
        await sync_results(remote, "~/out", home, limits=CollectLimits(max_bytes=99, exclude="*.tmp"))
    assert caught.value.collected.skipped == (("large", "over the budget of 99 bytes"),)
    assert isinstance(remote.events[-1], StageFailed)


async def test_p10_what_is_missed_is_named_first_and_travels(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a large one": "x" * 100, **{f"d{number:02}/f": "x" for number in range(30)}})
    for number in range(30):
        os.mkfifo(out / f"d{number:02}/pipe")
    with pytest.raises(CollectIncomplete, match=r"30 left behind, first d29/pipe: no regular file") as caught:
        await sync_results(remote, "~/out", home, limits=CollectLimits(max_file_bytes=99))
    error = pickle.loads(pickle.dumps(caught.value))
    assert len(error.evidence.splitlines()) == 9
    assert error.collected.skipped[-1] == ("a large one", "larger than 99 bytes")
    assert error.to_dict()["missing"] == 30
    assert Collected.from_dict(error.collected.to_dict()) == error.collected == caught.value.collected
