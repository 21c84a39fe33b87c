"""Disks that are full, read-only or in the way leave the old tree, and say so."""

import os
import subprocess
from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.values.errors import NodeFull, TransferFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import small_disk, tree, write


async def test_e1_a_full_disk_leaves_the_old_tree(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "size=400k") as disk:
        workspace = Workspace(source, remote_path=f"{disk}/site")
        await push_code(remote, workspace)
        before = tree(disk / "site")
        write(source, {"a.py": "new", "big": os.urandom(600_000)})
        with pytest.raises(NodeFull, match=r"0\.6 MB needed, [0-9.]+ \w+ free") as caught:
            await push_code(remote, workspace)
        assert caught.value.free_bytes > 0
        assert caught.value.needed_bytes > 600_000
        assert tree(disk / "site") == before
        (source / "big").unlink()
        await push_code(remote, workspace)
        assert tree(disk / "site") == tree(source)


async def test_e2_no_inodes_leaves_the_old_tree(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "nr_inodes=40") as disk:
        workspace = Workspace(source, remote_path=f"{disk}/site")
        await push_code(remote, workspace)
        before = tree(disk / "site")
        write(source, {f"d{number}/x": "x" for number in range(20)})
        with pytest.raises(NodeFull, match=r"/site: \d+ inodes free, of which each file and folder takes one; "):
            await push_code(remote, workspace)
        assert tree(disk / "site") == before


async def test_e3_read_only_is_said_with_the_path(remote: ShellRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(TransferFailed, match="Read-only") as caught:
            await push_code(remote, Workspace(source, remote_path=f"{disk}/site"))
        assert "read-only" in caught.value.hint


async def test_e3_a_file_where_the_site_should_be(remote: ShellRemote, source: Path) -> None:
    write(remote.home, {"file": "x"})
    for place in ("~/file", "~/file/below"):
        with pytest.raises(TransferFailed) as caught:
            await push_code(remote, Workspace(source, remote_path=place))
        assert "a part of the path is a file" in caught.value.hint
