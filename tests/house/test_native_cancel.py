"""Native cancellation of every public coroutine, at random points, on real nodes: nothing of it is left, anywhere.

``Task.cancel``, ``asyncio.timeout``, ``wait_for`` and a failing ``TaskGroup`` go through anyio's shields. Each verb is
run once to learn how long it takes, then cancelled at random points of that time, twice in a row in a part of the
cases. ASYNCDEPLOY_CANCELS says how often; 200 is the number to try before a release, the suite does with fewer.
"""

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.launch.gang.node_folder import place_tools
from asyncdeploy.tasks.workers import NAME
from tests.support import leaks
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

CANCELS = int(os.environ.get("ASYNCDEPLOY_CANCELS") or 6)
MARK = "sleep 97531"
BACK_S = 5.0 + 3.0  # the law, and what a busy machine takes
Verb = Callable[["World"], Awaitable[object]]


@attrs.define
class World:
    """Two nodes with a project, a job and a launch of theirs."""

    sshds: list[SshdNode]
    pool: ad.Pool
    folder: Path
    deployments: tuple[ad.Deployment, ...] = ()
    job: ad.Job | None = None
    launch: ad.Launch | None = None
    count: int = 0

    @property
    def nodes(self) -> list[ad.Node]:
        return [sshd.node for sshd in self.sshds]

    @property
    def remote(self) -> object:
        return self.pool.at(self.nodes[0])

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def fresh(self, name: str) -> Path:
        self.count += 1
        return self.folder / f"{name}-{self.count}"

    def edited(self) -> ad.Workspace:
        """The project with a change that travels, for a site where nothing runs."""
        self.count += 1
        (self.project / "data").write_bytes(random.Random(self.count).randbytes(300_000))
        return ad.Workspace(self.project, remote_path="~/edited")

    def site(self) -> ad.Site:
        return self.deployments[0].site

    def waits(self) -> ad.Ranks:
        return ad.Ranks(MARK, nproc_per_node=1, name="waits")


async def follow(context: object) -> None:
    async with context as lines:  # type: ignore[attr-defined]
        async for _ in lines:
            pass


async def take_all(world: World) -> None:
    async def work(node: ad.Node) -> ad.Completed:
        return await ad.run_command(world.pool.at(node), "sleep 0.2")

    async for _ in ad.iter_nodes(world.nodes, work):
        pass


async def queue(world: World) -> None:
    async with contextlib.aclosing(
        ad.run_queue(world.deployments, [f"{MARK} & sleep 0.2"] * 5, per_node=2, pool=world.pool)
    ) as outcomes:
        async for _ in outcomes:
            pass


async def pack(world: World) -> None:
    async with ad.pack_workspace(world.edited()):
        pass


async def new_pool(world: World) -> None:
    async with ad.Pool(host_keys=ad.HostKeys.strict(world.sshds[0].known_hosts)) as pool:
        await ad.run_command(pool.at(world.nodes[0]), "true")


async def forwarded(world: World) -> None:
    sshd = world.nodes[0].port
    async with ad.forward(world.pool, world.nodes[0], sshd or 22) as local:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", local.local_port)
            try:
                assert (await reader.readline()).startswith(b"SSH-")
            finally:
                writer.close()


async def local_cluster(world: World) -> None:
    async with ad.LocalCluster(2) as cluster, cluster.pool() as pool:
        await ad.run_all(cluster.nodes, "true", pool=pool)


ENV = ad.SystemEnv()
READS = ad.Command(f"cat >/dev/null; {MARK} & sleep 0.3", stdin="x" * 300_000)
VERBS: dict[str, Verb] = {
    "probe_node": lambda w: ad.probe_node(w.remote),
    "run_command": lambda w: ad.run_command(
        w.remote, ad.Command(f"cat >/dev/null; {MARK} & sleep 0.3", stdin="x" * 300_000)
    ),
    "push_code": lambda w: ad.push_code(w.remote, w.edited()),
    "bootstrap_env": lambda w: ad.bootstrap_env(w.remote, w.site(), ENV),
    "start_job": lambda w: ad.start_job(w.remote, MARK, name=f"job-{w.fresh('x').name}"),
    "job_status": lambda w: ad.job_status(w.remote, w.job),
    "wait_job": lambda w: ad.wait_job(w.remote, w.job, timeout_s=0.5),
    "list_jobs": lambda w: ad.list_jobs(w.remote),
    "find_job": lambda w: ad.find_job(w.remote, w.job.id),
    "read_log": lambda w: ad.read_log(w.remote, w.job),
    "follow_job": lambda w: asyncio.wait_for(follow(ad.follow_job(w.remote, w.job)), 0.6),
    "stop_job": lambda w: ad.stop_job(w.remote, attrs.evolve(w.job, id="gone-aaaaaaaa"), grace_s=0.1),
    "JobSet.status": lambda w: ad.JobSet.of([w.job]).status(pool=w.pool),
    "JobSet.wait": lambda w: ad.JobSet.of([w.job]).wait(timeout_s=0.5, pool=w.pool),
    "JobSet.follow": lambda w: asyncio.wait_for(follow(ad.JobSet.of([w.job]).follow(pool=w.pool)), 0.6),
    "sync_results": lambda w: ad.sync_results(w.remote, "~/results", w.fresh("synced")),
    "pack_workspace": pack,
    "deploy_project": lambda w: ad.deploy_project(w.pool, w.nodes[0], w.edited(), ENV),
    "run_in_project": lambda w: ad.run_in_project(w.pool, w.deployments[0], f"{MARK} & sleep 0.3"),
    "start_in_project": lambda w: ad.start_in_project(w.pool, w.deployments[0], MARK, name=f"in-{w.fresh('x').name}"),
    "collect_results": lambda w: ad.collect_results(w.pool, w.deployments[0], "~/results", w.fresh("collected")),
    "map_nodes": lambda w: ad.map_nodes(w.nodes, lambda node: ad.run_command(w.pool.at(node), "sleep 0.2")),
    "iter_nodes": take_all,
    "push_all": lambda w: ad.push_all(w.nodes, w.edited(), relay="on", pool=w.pool),
    "deploy_all": lambda w: ad.deploy_all(w.nodes, w.edited(), ENV, pool=w.pool),
    "plan_all": lambda w: ad.plan_all(w.nodes, w.edited(), ENV, launcher=w.waits(), pool=w.pool),
    "run_all": lambda w: ad.run_all(w.nodes, f"{MARK} & sleep 0.3", pool=w.pool),
    "deploy_and_run": lambda w: ad.deploy_and_run(w.nodes, w.edited(), f"{MARK} & sleep 0.3", ENV, pool=w.pool),
    "run_queue": queue,
    "preflight": lambda w: ad.preflight(w.nodes, pool=w.pool),
    "start_launch": lambda w: ad.start_launch(w.pool, w.deployments, w.waits(), grace_s=0.5),
    "run_launch": lambda w: ad.run_launch(w.pool, w.deployments, ad.Ranks("sleep 0.3", nproc_per_node=1, name="run")),
    "fan_out": lambda w: ad.fan_out(w.nodes, w.edited(), w.waits(), ENV, grace_s=0.5, pool=w.pool),
    "find_launch": lambda w: ad.find_launch(w.nodes, w.launch.id, pool=w.pool),
    "list_launches": lambda w: ad.list_launches(w.nodes, pool=w.pool),
    "launch_status": lambda w: ad.launch_status(w.launch, pool=w.pool),
    "explain_launch": lambda w: ad.explain_launch(w.launch, pool=w.pool),
    "wait_launch": lambda w: asyncio.wait_for(ad.wait_launch(w.launch, pool=w.pool), 0.6),
    "watch_launch": lambda w: asyncio.wait_for(ad.watch_launch(w.pool, w.launch), 0.6),
    "follow_launch": lambda w: asyncio.wait_for(follow(ad.follow_launch(w.launch, pool=w.pool)), 0.6),
    "diagnose_launch": lambda w: ad.diagnose_launch(w.launch, pool=w.pool),
    "collect_all": lambda w: ad.collect_all(w.deployments, "~/results", w.fresh("all"), pool=w.pool),
    "collect_logs": lambda w: ad.collect_logs(w.launch, w.fresh("logs"), pool=w.pool),
    "clean": lambda w: ad.clean(w.nodes, dry_run=True, pool=w.pool),
    "run_on_cluster": lambda w: ad.run_on_cluster(w.launch, f"{MARK} & sleep 0.3", pool=w.pool),
    "start_on_cluster": lambda w: ad.start_on_cluster(w.launch, MARK, name=f"on-{w.fresh('x').name}", pool=w.pool),
    "wait_ready": lambda w: ad.wait_ready(w.nodes, timeout_s=20, pool=w.pool),
    "forward": forwarded,
    "Pool": new_pool,
    "LocalCluster": local_cluster,
}
# What they start stays when they are done: the test ends it, and only looks at those that were cancelled.
STARTS = {"start_job", "start_in_project", "start_on_cluster", "start_launch", "fan_out"}
# Ends of what a person asked to end: cancelled or not, they go on on the nodes.
NOT_TRIED = {"start_all", "stop_launch", "end_launch"}
# Tried at a provider's, with everything else that goes wrong there: tests/sources/rent/test_promise.py.
NOT_TRIED |= {"find_offers", "start_rental", "end_rental", "find_rentals", "reap_rentals", "provider_nodes"}
# It would look at the Slurm jobs of who runs the tests: tests/sources/slurm/test_allocation.py.
NOT_TRIED |= {"reap_allocations"}


def test_every_public_coroutine_is_tried() -> None:
    coroutines = {name for name in ad.__all__ if asyncio.iscoroutinefunction(getattr(ad, name))}
    assert coroutines <= set(VERBS) | NOT_TRIED, sorted(coroutines - set(VERBS) - NOT_TRIED)


@pytest.fixture
async def world(start_sshd: Callable[..., SshdNode], tmp_path: Path) -> AsyncIterator[World]:
    sshds = [start_sshd(f"cancel-{number}") for number in range(2)]
    project = tmp_path / "project"
    project.mkdir()
    for number in range(30):
        (project / f"file-{number}").write_text(f"{number}\n" * 50)
    for sshd in sshds:
        results = sshd.home / "results"
        results.mkdir()
        (results / "large").write_bytes(os.urandom(3 << 20))
        for number in range(20):
            (results / f"small-{number}").write_text("x" * 1000)
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshds[0].known_hosts)) as pool:
        made = World(sshds, pool, tmp_path)
        made.deployments = (await ad.deploy_all(made.nodes, project, ENV, pool=pool)).unwrap()
        made.job = await ad.start_job(pool.at(sshds[0].node), "while sleep 0.1; do echo line; done", name="talks")
        # As an engine's, so that drivers find it: a real one would cost each of these tests some seconds.
        line = 'echo $$ >"$ASYNCDEPLOY_LOG_FOLDER/engine.pid"; while sleep 0.1; do echo line; done'
        ranks = ad.Ranks(line, nproc_per_node=1, each="node")
        launch = await ad.start_launch(pool, made.deployments, ranks, grace_s=0.5)
        await place_tools(pool.at(sshds[0].node), launch.id, "dask_nodes")
        told = sshds[0].home / ".asyncdeploy" / "launches" / launch.id / "rank-0" / "engine.pid"
        await eventually(told.exists, "it runs")
        made.launch = attrs.evolve(launch, driver_env={"DASK_SCHEDULER_ADDRESS": "tls://127.0.0.1:9"})
        yield made
        await ad.stop_job(pool.at(sshds[0].node), made.job, grace_s=0.5)
        await ad.stop_launch(made.launch, grace_s=0.5, pool=pool)


def by_cancel(task: "asyncio.Task[object]", again: bool) -> None:
    task.cancel()
    if again:
        asyncio.get_running_loop().call_later(0.05, task.cancel)


async def undo(world: World, made: object) -> None:
    """End what a verb that was not cancelled in time has started."""
    if isinstance(made, ad.Job):
        await ad.stop_job(world.pool.at(made.node), made, grace_s=0.1)
    elif isinstance(made, ad.Launch):
        await ad.stop_launch(made, grace_s=0.1, pool=world.pool)


@pytest.mark.timeout(110 + 4 * CANCELS)
@pytest.mark.parametrize("name", VERBS)
async def test_p_e_a_native_cancellation_leaves_nothing(world: World, name: str) -> None:
    verb, chance = VERBS[name], random.Random(name)
    start = time.monotonic()
    with contextlib.suppress(TimeoutError):
        await undo(world, await verb(world))
    took = time.monotonic() - start
    threads = set(threading.enumerate())
    for number in range(CANCELS):
        tasks = asyncio.all_tasks()
        task = asyncio.ensure_future(verb(world))
        await asyncio.wait((task,), timeout=chance.random() * took)
        by_cancel(task, again=number % 3 == 0)
        began = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await undo(world, await task)
        assert time.monotonic() - began < BACK_S, f"case {number} was back after {time.monotonic() - began:.1f} s"
        await eventually(lambda tasks=tasks: leaks.new_tasks(tasks) == [], f"case {number}: no task is left")
        for sshd in world.sshds:
            await eventually(
                lambda sshd=sshd: [line for line in sshd.processes().values() if MARK in line] == [],
                f"case {number}: nothing runs on {sshd.node.name}",
            )
    left = [thread.name for thread in set(threading.enumerate()) - threads]
    # These wait a while for more work, and asyncio's own for the end of its loop.
    assert [name for name in left if name != NAME and not name.startswith("asyncio_")] == []
    assert not list(world.folder.rglob(".asyncdeploy-part-*"))
    for sshd in world.sshds:
        assert not list(sshd.home.glob("*/.asyncdeploy/journal"))
