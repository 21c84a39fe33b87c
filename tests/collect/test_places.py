"""Where results come to: folders of an earlier collect are named, a collect that fails leaves no empty ones."""

import asyncio
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.values.errors import DeployError, TransferFailed
from asyncdeploy.values.events import BytesMoved, Event, Noted
from asyncdeploy.values.workspace import CollectIncomplete
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.results import tree, write
from tests.support.waiting import eventually


async def test_p13_folders_of_an_earlier_launch_are_named(tmp_path: Path, project: Path) -> None:
    """Nothing that stands there is removed, and nobody takes it for this launch's."""
    events: list[Event] = []
    home = tmp_path / "home"
    async with LocalCluster(3) as cluster, cluster.pool(observer=events.append) as pool:
        write(project, {"out/a": "a"})
        deployments = (await deploy_all(cluster.nodes, project, SystemEnv(), pool=pool)).unwrap()
        (await collect_all(deployments, "out", home, pool=pool)).unwrap()
        (await collect_all(deployments, "out", home, pool=pool)).unwrap()
        write(home, {"notes/a": "mine", "2024.txt": "mine"})
        assert not [event for event in events if isinstance(event, Noted)]
        (await collect_all(deployments[:0:-1], "out", home, pool=pool)).unwrap()
    said = [event.text for event in events if isinstance(event, Noted)]
    assert said == [f"{home} has folders of an earlier collect, of other nodes: 0-local-0, 2-local-2"]
    assert sorted(path.name for path in home.iterdir()) == [
        *("0-local-0", "0-local-2", "1-local-1", "2-local-2", "2024.txt", "notes")
    ]


async def test_p13_a_collect_that_fails_leaves_no_empty_folder(tmp_path: Path, remote: ShellRemote, out: Path) -> None:
    write(out, {"d/e/f": "x" * 100})
    (out / "link").symlink_to("/etc/passwd")
    (tmp_path / "mine").mkdir()
    for place in (tmp_path / "mine/a/b", tmp_path / "c"):
        with pytest.raises(TransferFailed, match="No such file"):
            await sync_results(remote, "~/nothing", place)
        with pytest.raises(CollectIncomplete):
            await sync_results(remote, "~/out/link", place)
    assert tree(tmp_path / "mine") == {}
    assert not (tmp_path / "c").exists()
    with pytest.raises(CollectIncomplete):  # what came stays
        await sync_results(remote, "~/out", tmp_path / "c")
    assert set(tree(tmp_path / "c")) == {b"d", b"d/e", b"d/e/f"}


async def test_p13_nor_does_one_that_is_cancelled_or_fails_midway(tmp_path: Path, out: Path) -> None:
    write(out, {"a/empty/deep": "", "b/big": bytes(50_000_000)})
    (out / "a/empty/deep").unlink()
    home = tmp_path / "home"
    async with ShellRemote(tmp_path / "node") as remote:
        task = asyncio.create_task(sync_results(remote, "~/out", home))
        await eventually(lambda: any(isinstance(event, BytesMoved) for event in remote.events))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not home.exists()
        home.mkdir()

        def cut(event: Event) -> None:
            if isinstance(event, BytesMoved):
                remote.channels[-1].process.kill()

        remote.emit = cut  # type: ignore[method-assign]
        with pytest.raises(DeployError):
            await sync_results(remote, "~/out", home)
    assert tree(home) == {}  # the folder itself was there before


async def test_p13_nor_do_many_that_all_fail(tmp_path: Path, project: Path) -> None:
    async with LocalCluster(3) as cluster, cluster.pool() as pool:
        deployments = (await deploy_all(cluster.nodes, project, SystemEnv(), pool=pool)).unwrap()
        report = await collect_all(deployments, "nothing", tmp_path / "home" / "deeper", pool=pool)
    assert [outcome.state for outcome in report] == ["failed"] * 3
    assert not (tmp_path / "home").exists()
