"""L5: who watches a launch from elsewhere, by a handle without a Restart, goes on with what another one starts."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.launch.gang.node_folder import tools_of
from asyncdeploy.launch.gang.recall import ask_folder
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.run.job import new_job_id
from asyncdeploy.values.events import Event
from tests.support.events import notes
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need
from tests.support.waiting import eventually

FAILS_ONCE = 'echo attempt $ASYNCDEPLOY_ATTEMPT; test "$ASYNCDEPLOY_ATTEMPT" != 0 || test $NODE_RANK != 1 || exit 9'

LATE = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += 900;
    return failed;
}
"""


@attrs.frozen
class Bed:
    """A cluster, our own pool, the one of another machine, and what that one's observer was told."""

    cluster: ad.LocalCluster
    pool: ad.Pool
    elsewhere: ad.Pool
    told: list[Event]

    def watched(self, launch: ad.Launch, rank: int = 0) -> Path:
        """The file on a node that says that somebody watches."""
        return self.cluster.home(launch.nodes[rank]) / ".asyncdeploy" / "launches" / launch.id / "watched"

    async def start(self, workspace: ad.Workspace, line: str, restart: ad.Restart | None, count: int = 2) -> ad.Launch:
        ranks, nodes = ad.Ranks(line, nproc_per_node=1), self.cluster.nodes
        return await ad.fan_out(
            nodes[:count], workspace, ranks, ad.SystemEnv(), restart=restart, spares=nodes[count:], pool=self.pool
        )


@asynccontextmanager
async def bed(count: int = 2) -> AsyncIterator[Bed]:
    told: list[Event] = []
    async with ad.LocalCluster(count) as cluster, cluster.pool() as pool, cluster.pool(observer=told.append) as other:
        yield Bed(cluster, pool, other, told)


def as_elsewhere(launch: ad.Launch) -> ad.Launch:
    return ad.Launch.from_dict(launch.to_dict())


@pytest.mark.parametrize("follows", [False, True], ids=["waits", "follows"])
async def test_l5_a_watcher_elsewhere_goes_on_with_the_next_attempt(workspace: ad.Workspace, *, follows: bool) -> None:
    decided = asyncio.Event()

    async def between(failed: ad.Launch, following: Sequence[ad.Deployment]) -> None:
        await decided.wait()

    async with bed() as here:
        launch = await here.start(workspace, FAILS_ONCE, ad.Restart(between=between))
        first = asyncio.create_task(ad.wait_launch(launch, pool=here.pool))
        await eventually(here.watched(launch).exists)

        async def follow() -> ad.Report[ad.JobStatus]:
            async with ad.follow_launch(as_elsewhere(launch), pool=here.elsewhere) as lines:
                texts = [line.text async for line in lines]
            assert texts.count("attempt 1") == 2
            assert lines.report is not None
            return lines.report

        wait = follow() if follows else ad.wait_launch(as_elsewhere(launch), pool=here.elsewhere)
        second = asyncio.create_task(wait)
        await eventually(lambda: notes(here.told, "may start it again: waiting"))
        found = await ad.find_launch(here.cluster.nodes, launch.id, pool=here.elsewhere)
        assert found.id == launch.id, "no other attempt runs"
        decided.set()
        reports = await asyncio.gather(first, second)
        assert [report.ok for report in reports] == [True, True], reports
        assert reports[1].values[0].job.id.endswith(launch.current.id[-8:])
        assert (await ad.find_launch(here.cluster.nodes, launch.id, pool=here.elsewhere)).id == launch.current.id
        late = await ad.wait_launch(as_elsewhere(launch), pool=here.elsewhere)
        assert late.ok, "who comes when all is over is told how it ended"


async def test_l5_one_that_is_not_started_again_has_failed_for_all(workspace: ad.Workspace) -> None:
    async with bed() as here:
        launch = await here.start(workspace, "until [ -e go ]; do sleep 0.05; done; exit 9", ad.Restart(times=1))
        watching = [asyncio.create_task(ad.wait_launch(launch, pool=here.pool))]
        await eventually(here.watched(launch).exists)
        watching += [asyncio.create_task(ad.wait_launch(as_elsewhere(launch), pool=here.elsewhere))]
        for node in here.cluster.nodes:
            (here.cluster.home(node) / "project" / "go").touch()
        failures = [failure_of(report) for report in await asyncio.gather(*watching)]
        assert [failed and failed.launch_id for failed in failures] == [launch.current.id] * 2
        assert not here.watched(launch.current).exists()


async def test_l5_a_watcher_that_died_is_not_waited_for_for_ever(workspace: ad.Workspace) -> None:
    async with bed() as here:
        launch = await here.start(workspace, "exit 9", None)
        here.watched(launch, 1).touch()
        waiting = asyncio.create_task(ad.wait_launch(launch, pool=here.elsewhere))
        await eventually(lambda: notes(here.told, "may start it again: waiting"))
        assert not waiting.done()
        os.utime(here.watched(launch, 1), (1e9, 1e9))
        failed = failure_of(await waiting)
        assert failed is not None
        assert failed.launch_id == launch.id


async def test_l5_a_home_with_another_clock_keeps_a_lease(tmp_path: Path) -> None:
    """A file there is from a quarter of an hour ago when it is new, as on a server whose clock nobody has set."""
    need("cc")
    source, library, launch_id = tmp_path / "late.c", tmp_path / "late.so", new_job_id("train")
    source.write_text(LATE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    async with ShellRemote(tmp_path / "home") as remote:
        remote.env["LD_PRELOAD"] = str(library)
        await ask_folder(remote, "keep", launch_id, b"\0".join((b"", b"3", b"any" + tools_of(""))))
        await ask_folder(remote, "watch", launch_id)
        assert await ask_folder(remote, "ahead", launch_id) == b"watched"
        await ask_folder(remote, "leave", launch_id)
        assert await ask_folder(remote, "ahead", launch_id) == b""


async def test_l5_what_goes_on_on_nodes_that_a_handle_does_not_name(workspace: ad.Workspace) -> None:
    """No node's word says where we connect to: that it was started again is said, and with all nodes it is found."""
    async with bed(3) as here:
        launch = await here.start(workspace, FAILS_ONCE, ad.Restart())
        handle = as_elsewhere(launch)
        assert (await ad.wait_launch(launch, pool=here.pool)).ok
        assert not (await ad.wait_launch(handle, pool=here.elsewhere)).ok
        (note,) = notes(here.told, "was started again")
        assert "has nodes that were not named: local-2" in note
        found = await ad.find_launch(here.cluster.nodes, launch.id, pool=here.elsewhere)
        assert (await ad.wait_launch(found, pool=here.elsewhere)).ok
