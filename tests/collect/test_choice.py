"""What of a folder comes home: patterns, caps, time; and again and again while a job runs."""

import time
from pathlib import Path

import anyio
import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all, sync_while_running
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import fan_out
from asyncdeploy.launch.placement import Placement, rank_env
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import start_job, stop_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.events import BytesMoved, Event, Noted
from asyncdeploy.values.workspace import Collected
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.results import write
from tests.support.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def out(out: Path) -> Path:
    """The folder on the node with something in it."""
    write(out, {"log.txt": "log", "model/last.ckpt": b"c" * 5000, "model/config.json": "{}", "plots/a.png": "png"})
    return out


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "limits,expected",
    [
        (CollectLimits(exclude="*.ckpt"), ["log.txt", "model/config.json", "plots/a.png"]),
        (CollectLimits(include=("*.json", "plots/")), ["model/config.json", "plots/a.png"]),
        (CollectLimits(include="model", exclude=["*.ckpt"]), ["model/config.json"]),
    ],
)
async def test_patterns_say_what_comes(
    remote: ShellRemote, out: Path, tmp_path: Path, limits: CollectLimits, expected: list[str]
) -> None:
    done = await sync_results(remote, "~/out", tmp_path / "home", limits=limits)
    assert names(tmp_path / "home") == expected
    assert done.complete  # nothing is missing that was asked for
    assert done.files == len(expected)


async def test_what_is_too_large_stays_behind_and_is_named(remote: ShellRemote, out: Path, tmp_path: Path) -> None:
    done = await sync_results(remote, "~/out", tmp_path / "home", limits=CollectLimits(max_file_bytes=4999))
    assert names(tmp_path / "home") == ["log.txt", "model/config.json", "plots/a.png"]
    assert done.skipped == (("model/last.ckpt", "larger than 4999 bytes"),)


async def test_when_the_time_is_over_what_came_stays(remote: ShellRemote, out: Path, tmp_path: Path) -> None:
    write(out, {f"z{number}": b"z" * 40 * MIB for number in range(2)})
    limits = CollectLimits(timeout_s=0.05)

    def emit(event: Event) -> None:
        remote.events.append(event)
        if isinstance(event, BytesMoved):
            time.sleep(0.06)  # a slow reader of events: longer than the budget

    remote.emit = emit
    done = await sync_results(remote, "~/out", tmp_path / "home", limits=limits, allow_partial=True)
    assert {"z0", "z1"} & {name for name, _ in done.skipped}
    assert all(why == "over the budget of 0.05 s" for _, why in done.skipped)
    assert done.files + len(done.skipped) == 6
    again = await sync_results(remote, "~/out", tmp_path / "home")
    assert again.complete
    assert names(tmp_path / "home") == names(out)


@pytest.mark.parametrize("field,value", [("max_file_bytes", 0), ("timeout_s", 0), ("max_file_bytes", "1")])
def test_a_bad_limit_is_refused(field: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=field):
        CollectLimits(**{field: value})


# --- while a job runs


async def test_results_come_while_the_job_runs_and_once_more_at_its_end(remote: ShellRemote, tmp_path: Path) -> None:
    home = tmp_path / "home"
    steps = "mkdir -p out; echo 1 >out/a; until test -e go; do sleep 0.02; done; echo 2 >>out/a; echo b >out/b; exit 3"
    job = await start_job(remote, Command(steps), name="steps")
    results: list[Collected] = []

    async def collect() -> Collected:
        return await sync_results(remote, "~/out", home)

    async def pull() -> None:
        results.append(await sync_while_running(remote, job, collect, every_s=0.05))

    async with anyio.create_task_group() as group:
        group.start_soon(pull)
        await eventually(lambda: (home / "a").exists() and (home / "a").read_text() == "1\n")
        assert not results
        (remote.home / "go").touch()
    assert (home / "a").read_text() == "1\n2\n"
    assert (home / "b").read_text() == "b\n"
    assert results[0].received >= 3  # the file came twice, its second half alone the second time
    assert results[0].bytes_received == 6


async def test_results_that_are_not_there_yet_are_no_failure_until_the_end(remote: ShellRemote, tmp_path: Path) -> None:
    job = await start_job(remote, Command("until test -e go; do sleep 0.02; done"), name="late")

    async def collect() -> Collected:
        return await sync_results(remote, "~/out", tmp_path / "home")

    def emit(event: Event) -> None:
        if isinstance(event, Noted):
            assert "cannot be collected" in event.text
            (remote.home / "go").touch()

    remote.emit = emit
    with pytest.raises(TransferFailed, match="out on the node cannot be collected"):
        await sync_while_running(remote, job, collect, every_s=0.02)


async def test_a_cancelled_collect_leaves_the_job(remote: ShellRemote, tmp_path: Path) -> None:
    job: Job = await start_job(remote, Command("sleep 60"), name="on")
    with anyio.move_on_after(0.1) as scope:
        await sync_while_running(remote, job, lambda: sync_results(remote, "~", tmp_path / "home"), every_s=30)
    assert scope.cancelled_caught
    status = await stop_job(remote, job)
    assert status.signal == "TERM"


class Writers:
    """A launcher whose ranks write a file, wait for a word, and write another."""

    name = "writers"
    nproc_per_node: int | None = 1
    master_port: int | None = None
    uneven = False
    opens_port = False

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        """One command a node."""
        line = "mkdir -p results; echo $NODE_RANK >results/one; until test -e ~/go; do sleep 0.02; done; : >results/two"
        return tuple(Command(line, env=rank_env(placement, place)) for place in placement.places)


async def test_a_launch_is_collected_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    home = tmp_path / "home"
    async with LocalCluster(2) as cluster, cluster.pool() as pool:
        launch = await fan_out(cluster.nodes, tmp_path / "project", Writers(), SystemEnv(), pool=pool)

        async def let_go() -> None:
            await eventually(lambda: len(list(home.glob("*/one"))) == 2)
            assert list(home.glob("*/two")) == []
            for node in cluster.nodes:
                (cluster.home(node) / "go").touch()

        async with anyio.create_task_group() as group:
            group.start_soon(let_go)
            report = await collect_all(launch, "results", home, every_s=0.1, pool=pool)
        assert report.ok
        assert names(home) == ["0-local-0/one", "0-local-0/two", "1-local-1/one", "1-local-1/two"]
        deployments = (await deploy_all(cluster.nodes, tmp_path / "project", SystemEnv(), pool=pool)).unwrap()
        with pytest.raises(ValueError, match="every_s: a launch was expected, got deployments"):
            await collect_all(deployments, "results", home, every_s=1, pool=pool)
