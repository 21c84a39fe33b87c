"""What a person edited on the node: refused by name, or overwritten and named."""

import os
import shutil
from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.values.errors import WorkspaceConflict
from asyncdeploy.values.events import StageFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.events import details, notes
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import tree, write


async def test_an_edit_on_the_node_is_refused_by_name(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {"a.py": "edited!!\n"})
    write(source, {"src/b.py": "new"})
    before = tree(site)
    with pytest.raises(WorkspaceConflict, match=r"edited on the node since our last push: a\.py") as caught:
        await push_code(remote, source)
    assert "overwrite" in caught.value.hint
    assert tree(site) == before
    assert any(isinstance(event, StageFailed) for event in remote.events)


async def test_an_edit_on_the_node_is_overwritten_and_named(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {"a.py": "edited!!\n"})
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert tree(site) == tree(source)
    assert "edited on the node and overwritten: a.py" in "\n".join(notes(remote.events))


async def test_e10_an_edit_of_the_same_size_and_time_is_seen(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    was = (site / "a.py").stat()
    (site / "a.py").write_text("print(9)\n")
    os.utime(site / "a.py", ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(WorkspaceConflict, match=r"a\.py"):
        await push_code(remote, source)


async def test_a_touched_file_is_no_edit(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    os.utime(site / "a.py")
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_the_same_edit_on_both_sides_is_no_conflict(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    for root in (source, site):
        write(root, {"a.py": "both\n", "new.py": "both\n"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_file_removed_on_the_node_is_brought_back(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    (site / "a.py").unlink()
    shutil.rmtree(site / "src")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert "removed on the node and brought back: a.py" in "\n".join(notes(remote.events))


async def test_a_file_in_the_way_is_a_conflict(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {"new.py": "made on the node", "results/x": "1"})
    write(source, {"new.py": "ours"})
    with pytest.raises(WorkspaceConflict, match=r"new\.py"):
        await push_code(remote, source)
    (source / "new.py").unlink()
    write(source, {"results": "a file where a folder of theirs stands"})
    for conflict in ("refuse", "overwrite"):
        with pytest.raises(WorkspaceConflict, match="results is a folder on the node"):
            await push_code(remote, Workspace(source, on_conflict=conflict))
    assert (site / "results/x").read_text() == "1"


async def test_a_file_and_a_link_become_empty_folders(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    for name in ("a.py", "link"):
        (source / name).unlink()
        (source / name).mkdir()
    await push_code(remote, source)
    assert tree(site) == tree(source)
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_an_empty_folder_that_was_filled_on_the_node_is_no_place_for_a_file(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    (source / "empty").rmdir()
    write(source, {"empty": "a file now", "a.py": "new"})
    for inside in ("empty/results", "empty/theirs/more"):
        write(site, {inside: "1"})
        before = tree(site)
        with pytest.raises(WorkspaceConflict, match="empty is a folder on the node"):
            await push_code(remote, Workspace(source, on_conflict="overwrite"))
        assert tree(site) == before
        (site / inside).unlink()
    with pytest.raises(WorkspaceConflict, match="empty is a folder on the node"):
        await push_code(remote, source)  # their folder in it is not ours to remove either
    (site / "empty/theirs").rmdir()
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_folder_whose_files_were_removed_on_the_node_becomes_a_file(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    (site / "src/deep/c.txt").unlink()
    shutil.rmtree(source / "src")
    write(source, {"src": "a file now"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_pipe_in_the_way_is_not_taken_for_ours(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    (site / "src/b.py").unlink()
    os.mkfifo(site / "src/b.py")
    shutil.rmtree(source / "src")
    write(source, {"src": "a file now", "a.py": "new"})
    with pytest.raises(WorkspaceConflict, match="src is a folder on the node"):
        await push_code(remote, source)
    assert (site / "a.py").read_text() == "print(1)\n"
