"""Collect by the real sender: what travels, what stands here afterwards, what is left behind and why."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import collect_results
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.events import BytesMoved, StageFailed, StageFinished
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.results import LONG_AGO_NS, tree, write

# --- what travels


async def test_a_tree_comes_as_it_is(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a.json": "{}", "deep/er/b": b"\0\xff" * 70_000, "empty file": b"", "run.sh": "#!/bin/sh\n"})
    (out / "run.sh").chmod(0o755)
    (out / "empty").mkdir()
    (out / "last").symlink_to("deep/er/b")
    (out / "deep" / "up").symlink_to("../a.json")
    (out / "dangling").symlink_to("nowhere")
    for name in (b"new\nline", b"latin-\xe9", b"x" * 255, b"-rf", b"a b'\"$HOME"):
        Path(os.fsdecode(os.fsencode(out) + b"/" + name)).write_bytes(name)
    done = await sync_results(remote, "~/out", home)
    assert done.complete
    assert tree(home) == tree(out)
    assert (done.files, done.received) == (12, 12)
    assert done.bytes_received == sum(len(content) for content in tree(out).values() if isinstance(content, bytes))
    assert (home / "a.json").stat().st_mtime_ns == LONG_AGO_NS
    assert os.access(home / "run.sh", os.X_OK)
    assert not os.access(home / "a.json", os.X_OK)
    moved = [event for event in remote.events if isinstance(event, BytesMoved)]
    assert moved[-1].done == moved[-1].total == done.bytes_received
    assert isinstance(remote.events[-1], StageFinished)


async def test_a_site_s_own_state_is_no_result(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a.json": "{}", ".asyncdeploy/venv-1/a/bin/python": "", "sub/.asyncdeploy/env": ""})
    (out / ".venv").symlink_to(out / ".asyncdeploy" / "venv-1" / "a")
    done = await sync_results(remote, "~/out", home)
    assert done.complete, done.skipped
    assert sorted(tree(home)) == sorted(name for name in tree(out) if b"venv" not in name and b".async" not in name)


async def test_a_second_collect_moves_nothing(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "a" * 1000, "b/c": "c"})
    (out / "l").symlink_to("a")
    (out / "fresh").write_text("written just now")
    await sync_results(remote, str(out), home)
    before = {path: path.stat().st_ino for path in home.rglob("*")}
    again = await sync_results(remote, str(out), home)
    assert (again.files, again.received, again.bytes_received) == (4, 0, 0)
    assert {path: path.stat().st_ino for path in home.rglob("*")} == before
    assert remote.opens == 1


async def test_of_a_log_that_grew_only_the_tail_comes(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"log": b"line\n" * 200_000})
    await sync_results(remote, "~/out", home)
    with (out / "log").open("ab") as file:
        file.write(b"more\n" * 3)
    done = await sync_results(remote, "~/out", home)
    assert (done.received, done.bytes_received) == (1, 15)
    assert (home / "log").read_bytes() == (out / "log").read_bytes()


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(b"new\n", id="truncated"),
        pytest.param(b"other\n" * 100, id="rotated and longer"),
        pytest.param(b"LINE\n" * 10, id="same size"),
        pytest.param(b"", id="emptied"),
    ],
)
async def test_a_file_that_changed_comes_whole(remote: ShellRemote, out: Path, home: Path, now: bytes) -> None:
    write(out, {"log": b"line\n" * 10})
    await sync_results(remote, "~/out", home)
    (out / "log").write_bytes(now)
    done = await sync_results(remote, "~/out", home)
    assert (done.received, done.bytes_received) == (1, len(now))
    assert (home / "log").read_bytes() == now


async def test_a_file_that_was_only_touched_does_not_come(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"model": b"m" * 3_000_000})
    await sync_results(remote, "~/out", home)
    os.utime(out / "model", ns=(5, 5))
    inode = (home / "model").stat().st_ino
    done = await sync_results(remote, "~/out", home)
    assert (done.files, done.received, done.bytes_received) == (1, 0, 0)
    assert ((home / "model").stat().st_mtime_ns, (home / "model").stat().st_ino) == (5, inode)


async def test_a_file_changed_within_its_clock_s_tick_is_found(remote: ShellRemote, out: Path, home: Path) -> None:
    """Same size and same mtime: a file that was fresh when it came is looked at once more."""
    (out / "state").write_text("step 1")
    stamp = (out / "state").stat().st_mtime_ns
    await sync_results(remote, "~/out", home)
    (out / "state").write_text("step 2")
    os.utime(out / "state", ns=(stamp, stamp))
    await sync_results(remote, "~/out", home)
    assert (home / "state").read_text() == "step 2"


async def test_same_size_and_an_old_mtime_are_taken_as_the_same(remote: ShellRemote, out: Path, home: Path) -> None:
    """What the docstring says; rsync does the same."""
    write(out, {"state": "step 1"})
    await sync_results(remote, "~/out", home)
    write(out, {"state": "step 2"})
    await sync_results(remote, "~/out", home)
    assert (home / "state").read_text() == "step 1"


async def test_what_was_changed_here_becomes_the_node_s_again(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"a": "node", "b": "node"})
    await sync_results(remote, "~/out", home)
    (home / "a").write_text("mine, and longer")
    (home / "b").write_text("mine")
    (home / "kept").write_text("mine")
    await sync_results(remote, "~/out", home)
    assert tree(home) == {b"a": b"node", b"b": b"node", b"kept": b"mine"}


async def test_a_local_link_is_replaced_and_not_written_through(
    remote: ShellRemote, out: Path, home: Path, tmp_path: Path
) -> None:
    write(out, {"a": "node"})
    (tmp_path / "precious").write_text("mine")
    home.mkdir()
    (home / "a").symlink_to(tmp_path / "precious")
    await sync_results(remote, "~/out", home)
    assert not (home / "a").is_symlink()
    assert (home / "a").read_text() == "node"
    assert (tmp_path / "precious").read_text() == "mine"


async def test_file_and_folder_do_not_replace_each_other(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"was a file": "x", "was a folder/f": "x", "rest": "x"})
    await sync_results(remote, "~/out", home, allow_partial=True)
    (out / "was a file").unlink()
    shutil.rmtree(out / "was a folder")
    write(out, {"was a file/f": "new", "was a folder": "new", "rest": "newer"})
    done = await sync_results(remote, "~/out", home, allow_partial=True)
    assert {name for name, _ in done.skipped} == {"was a file", "was a file/f", "was a folder"}
    assert "another kind" in dict(done.skipped)["was a folder"]
    assert (home / "was a file").read_text() == "x"
    assert (home / "was a folder" / "f").read_text() == "x"
    assert (home / "rest").read_text() == "newer"


# --- sources


async def test_a_source_may_be_a_file(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"metrics.json": "{}", "other": "x"})
    done = await sync_results(remote, "~/out/metrics.json", home)
    assert tree(home) == {b"metrics.json": b"{}"}
    assert done.files == 1


async def test_a_source_may_be_a_link_to_a_folder(remote: ShellRemote, out: Path, home: Path) -> None:
    write(out, {"run-7/a": "a"})
    (out / "latest").symlink_to("run-7")
    await sync_results(remote, "~/out/latest", home)
    assert tree(home) == {b"a": b"a"}


@pytest.mark.parametrize("source", ["~/nothing", "~/out/*.json", "~/out/a/b"])
async def test_a_source_that_is_not_there_is_said_so(remote: ShellRemote, out: Path, home: Path, source: str) -> None:
    write(out, {"a": "a", "x.json": "{}"})
    with pytest.raises(TransferFailed) as caught:
        await sync_results(remote, source, home)
    assert source in caught.value.message
    assert "No such file or directory" in caught.value.message or "Not a directory" in caught.value.message
    assert caught.value.path == source
    assert isinstance(remote.events[-1], StageFailed)
    assert tree(home) == {}
    await sync_results(remote, "~/out", home)
    assert remote.opens == 1  # the worker is not spent by a no


async def test_sources_and_limits_are_checked_before_anything_is_opened(remote: ShellRemote, home: Path) -> None:
    for source in ("out", "../out", "~/../x", "/a\nb", ""):
        with pytest.raises(ValueError, match="sync_results source"):
            await sync_results(remote, source, home)
    for bad in ({"max_bytes": 0}, {"max_files": -1}, {"max_depth": 256}, {"max_files": True}):
        with pytest.raises((ValueError, TypeError), match="CollectLimits max_"):
            CollectLimits(**bad)
    assert remote.opens == 0
    assert not home.exists()


# --- many nodes


async def test_d14_two_nodes_one_path_and_a_third_that_fails(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    async with LocalCluster(3) as cluster, cluster.pool() as pool:
        deployments = (await deploy_all(cluster.nodes, tmp_path / "project", SystemEnv(), pool=pool)).unwrap()
        for node in cluster.nodes[:2]:
            write(cluster.home(node) / "project", {"out/rank.txt": str(node.name)})
        report = await collect_all(deployments, "out", tmp_path / "home", pool=pool)
        little = await collect_all(deployments[:2], "out", tmp_path / "little", limits=CollectLimits(1), pool=pool)
        for source in ("../out", "out\n", "~/../out"):
            with pytest.raises(ValueError, match="collect_all source"):
                await collect_all(deployments, source, tmp_path / "none", pool=pool)
    assert not (tmp_path / "none").exists()
    assert [(each.state, each.value and each.value.files) for each in little] == [("failed", 0), ("failed", 0)]
    assert [outcome.state for outcome in report] == ["ok", "ok", "failed"]
    assert isinstance(report.failures[0].error, TransferFailed)
    assert tree(tmp_path / "home") == {
        b"0-local-0": None,
        b"0-local-0/rank.txt": b"local-0",
        b"1-local-1": None,
        b"1-local-1/rank.txt": b"local-1",
    }


@pytest.mark.parametrize("source", ["~notes", "./~notes", "~/project/~notes"])
async def test_only_a_home_begins_with_a_tilde_and_a_slash(tmp_path: Path, source: str) -> None:
    """`~notes` is a folder of the project, whichever function is asked for it."""
    (tmp_path / "project" / "~notes").mkdir(parents=True)
    (tmp_path / "project" / "~notes" / "a").write_text("a")
    async with LocalCluster(1) as cluster, cluster.pool() as pool:
        (deployment,) = (await deploy_all(cluster.nodes, tmp_path / "project", SystemEnv(), pool=pool)).unwrap()
        await collect_results(pool, deployment, source, tmp_path / "one")
        assert (await collect_all([deployment], source, tmp_path / "all", pool=pool)).ok
    assert tree(tmp_path / "one") == {b"a": b"a"}
    assert tree(tmp_path / "all") == {b"0-local-0": None, b"0-local-0/a": b"a"}


async def test_over_openssh(sshd_nodes: Sequence[SshdNode], home: Path) -> None:
    sshd = sshd_nodes[0]
    write(sshd.home, {"out/log": b"line\n" * 500_000, "out/a": "a"})
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        first = await sync_results(remote, "~/out", home)
        with (sshd.home / "out" / "log").open("ab") as file:
            file.write(b"end\n")
        second = await sync_results(remote, str(sshd.home / "out"), home)
    assert (first.files, first.bytes_received) == (2, 2_500_001)
    assert (second.files, second.received, second.bytes_received) == (2, 1, 4)
    assert tree(home) == tree(sshd.home / "out")
