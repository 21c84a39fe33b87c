"""One file for an environment: verified, whole or not there, and not sent twice."""

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

from asyncdeploy.envs.base import Asset
from asyncdeploy.envs.bootstrap.assets import send_asset
from asyncdeploy.values.errors import NodeFull, TransferFailed
from asyncdeploy.values.events import BytesMoved, StageFailed
from tests.support.beds import disks
from tests.support.events import details
from tests.support.remotes.killing import lingering
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.waiting import eventually

CONTENT = bytes(range(256)) * 8192  # two MiB: several frames


@pytest.fixture(params=[True, False], ids=["python", "sh"])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home", python=request.param) as found:
        yield found


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    source = tmp_path / "tool"
    source.write_bytes(CONTENT)
    target = tmp_path / "home" / ".asyncdeploy" / "tools" / "it's here" / "tool"
    return Asset("tool 1", source, hashlib.sha256(CONTENT).hexdigest(), str(target), executable=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "small", 1) as folder:
        yield folder


def left(asset: Asset) -> list[str]:
    return sorted(path.name for path in Path(asset.target).parent.iterdir())


async def test_it_arrives_whole_and_only_once(remote: ShellRemote, asset: Asset) -> None:
    target = Path(asset.target)
    await send_asset(remote, asset)
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o755
    assert (remote.home / ".asyncdeploy").stat().st_mode & 0o777 == 0o700
    assert left(asset) == ["tool"]
    moved = [event for event in remote.events if isinstance(event, BytesMoved)]
    assert (moved[-1].done, moved[-1].total) == (len(CONTENT), len(CONTENT))
    first = target.stat().st_ino
    await send_asset(remote, asset)
    assert details(remote.events) == ["2.1 MB", "= there already"]
    assert target.stat().st_ino == first


async def test_it_can_be_run_as_soon_as_it_is_there(tmp_path: Path, asset: Asset) -> None:
    """Machines that share a home: one runs what another one has just brought ("Text file busy")."""
    text = b"#!/bin/sh\necho runs\n"
    asset.source.write_bytes(text)
    target = Path(asset.target)
    async with ShellRemote(tmp_path / "home", shell=lingering("rename", 1)) as remote:
        task = asyncio.create_task(send_asset(remote, attrs.evolve(asset, sha256=hashlib.sha256(text).hexdigest())))
        await eventually(target.exists)
        assert not task.done()
        assert subprocess.check_output([target], text=True) == "runs\n"
        await task


async def test_a_damaged_one_is_replaced(remote: ShellRemote, asset: Asset) -> None:
    await send_asset(remote, asset)
    Path(asset.target).write_bytes(CONTENT[:-1] + b"x")
    await send_asset(remote, attrs.evolve(asset, executable=False))
    assert Path(asset.target).read_bytes() == CONTENT
    assert Path(asset.target).stat().st_mode & 0o777 == 0o644


async def test_what_is_not_its_hash_is_not_put_in_place(remote: ShellRemote, asset: Asset) -> None:
    asset.source.write_bytes(CONTENT + b"changed")
    with pytest.raises(TransferFailed, match="hash"):
        await send_asset(remote, asset)
    assert left(asset) == []
    assert [event.stage for event in remote.events if isinstance(event, StageFailed)] == ["env: send tool 1"]


async def test_a_target_that_cannot_be_is_named(remote: ShellRemote, asset: Asset) -> None:
    (remote.home / "file").write_text("")
    with pytest.raises(TransferFailed, match="tool 1") as caught:
        await send_asset(remote, attrs.evolve(asset, target=str(remote.home / "file" / "tool")))
    assert "file" in caught.value.evidence
    assert caught.value.path.endswith("file/tool")


async def test_a_source_that_is_gone_is_named(remote: ShellRemote, asset: Asset) -> None:
    asset.source.unlink()
    with pytest.raises(TransferFailed, match="this machine"):
        await send_asset(remote, asset)


async def test_a_full_node_says_so(remote: ShellRemote, asset: Asset, small_disk: Path) -> None:
    with pytest.raises(NodeFull, match="tool 1") as caught:
        await send_asset(remote, attrs.evolve(asset, target=str(small_disk / "tools" / "tool")))
    assert caught.value.path == str(small_disk / "tools")
    assert caught.value.hint
    assert not list((small_disk / "tools").iterdir())


async def test_cancelled_in_between_nothing_is_left(remote: ShellRemote, asset: Asset) -> None:
    folder = Path(asset.target).parent
    with asset.source.open("ab") as file:
        file.truncate(1 << 33)  # 8 GiB of holes take longer than this test
    asset = attrs.evolve(asset, sha256="0" * 64)  # the first bytes alone would be what the old one promised
    if not remote.python:
        Path(asset.target).parent.mkdir(parents=True)
    task = asyncio.create_task(send_asset(remote, asset))
    await eventually(lambda: any(isinstance(event, BytesMoved) for event in remote.events))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: list(folder.iterdir()) == [])
