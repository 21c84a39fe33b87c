"""Ring 2: what a push would do, on nodes with python3 and without; the look changes nothing, and is right."""

import shutil
from pathlib import Path

import pytest

from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.preview import Preview, preview_push, read_preview
from asyncdeploy.push.push import push_code
from asyncdeploy.run.jobs import start_job, stop_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import NodeFull, ProtocolError, WorkspaceBusy, WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import small_disk, tree, untouched, write


async def look(remote: ShellRemote, workspace: Workspace | Path, *roots: Path) -> Preview:
    """Look what a push would do, and prove that it was only a look."""
    async with pack_workspace(workspace) as bundle:
        with untouched(*[root for root in roots if root.exists()]):
            return await preview_push(remote, bundle)


async def test_a_first_push_brings_all(either: ShellRemote, source: Path, site: Path) -> None:
    found = await look(either, source, source, site.parent)
    assert not site.exists()
    assert found.refusal is None
    assert (found.path, found.placed, found.removed) == (str(site), 6, 0)
    await push_code(either, source)
    assert details(either.events, "push")[-1].startswith(f"{found.placed} files, ")
    assert found.bytes == sum(len(content) for kind, _, content in tree(source).values() if kind == "file")


async def test_an_unchanged_tree_is_seen(either: ShellRemote, source: Path, site: Path) -> None:
    await push_code(either, source)
    found = await look(either, source, source, site.parent)
    assert found == Preview(str(site))
    assert not found.changes


async def test_what_changed_is_counted(either: ShellRemote, source: Path, site: Path) -> None:
    await push_code(either, source)
    write(source, {"a.py": "print(12345)\n", "new.py": "new"})
    (source / "src/deep/c.txt").unlink()
    found = await look(either, source, source, site.parent)
    assert (found.placed, found.removed, found.contents, found.bytes) == (2, 1, 2, 16)
    assert found.names == ("removed src/deep/c.txt",)
    await push_code(either, source)
    assert details(either.events, "push")[-1].endswith("1 removed")


@pytest.mark.parametrize(
    "files,sources,touches",
    [
        ({"a.py": "new"}, (), False),
        ({"a.py": "new"}, ("a.py",), True),
        ({"new/pyproject.toml": ""}, (), True),
        ({"new/requirements-dev.txt": ""}, (), True),
        ({"uv.lock": ""}, (), True),
    ],
    ids=str,
)
async def test_what_an_environment_is_made_from_is_seen_to_change(
    either: ShellRemote, source: Path, files: dict[str, str | bytes], sources: tuple[str, ...], touches: bool
) -> None:
    await push_code(either, source)
    write(source, files)
    async with pack_workspace(source) as bundle:
        assert (await preview_push(either, bundle, sources)).touches is touches


async def test_an_edit_on_the_node_is_a_refusal(either: ShellRemote, source: Path, site: Path) -> None:
    await push_code(either, source)
    write(site, {"a.py": "mine"})
    write(source, {"a.py": "theirs"})
    found = await look(either, source, source, site.parent)
    assert isinstance(found.refusal, WorkspaceConflict)
    assert "a.py" in found.refusal.message
    assert found.overwritten == 1
    with pytest.raises(WorkspaceConflict) as caught:
        await push_code(either, source)
    assert caught.value.message == found.refusal.message
    found = await look(either, Workspace(source, on_conflict="overwrite"), source, site.parent)
    assert found.refusal is None
    assert found.names == ("overwritten a.py",)


async def test_a_folder_of_others_is_a_refusal(either: ShellRemote, source: Path, site: Path) -> None:
    write(site, {"theirs": "1"})
    found = await look(either, source, source, site.parent)
    assert isinstance(found.refusal, WorkspaceConflict)
    assert "was not made by us" in found.refusal.message
    found = await look(either, Workspace(source, on_conflict="overwrite"), source, site.parent)
    assert found.refusal is None
    assert found.placed == 6


async def test_another_project_is_a_refusal(either: ShellRemote, source: Path, tmp_path: Path, site: Path) -> None:
    other = tmp_path / "other"
    write(other, {"x": "1"})
    await push_code(either, Workspace(other, remote_path="~/proj"))
    found = await look(either, source, source, site.parent)
    assert isinstance(found.refusal, WorkspaceConflict)
    assert "belongs to another project" in found.refusal.message


async def test_what_would_be_emptied_is_a_refusal(either: ShellRemote, source: Path, site: Path) -> None:
    await push_code(either, source)
    shutil.rmtree(source)
    write(source, {"b": "1"})
    found = await look(either, source, source, site.parent)
    assert isinstance(found.refusal, WorkspaceConflict)
    assert "no longer in the workspace" in found.refusal.message


async def test_a_job_that_runs_there_is_a_refusal(either: ShellRemote, source: Path, site: Path) -> None:
    where = await push_code(either, source)
    job = await start_job(either, Command("sleep 600", cwd=where.path), name="long", site=where)
    try:
        write(source, {"a.py": "new"})
        async with pack_workspace(source) as bundle:
            found = await preview_push(either, bundle)
        assert isinstance(found.refusal, WorkspaceBusy)
        assert job.id in found.refusal.message
    finally:
        await stop_job(either, job, grace_s=0)


async def test_a_disk_without_room_is_a_refusal(tmp_path: Path, source: Path) -> None:
    write(source, {"large": b"x" * (3 << 20)})
    async with small_disk(tmp_path / "home", "size=2m,mode=700") as disk, ShellRemote(disk) as remote:
        async with pack_workspace(source) as bundle:
            with untouched(source, disk):
                found = await preview_push(remote, bundle)
        assert isinstance(found.refusal, NodeFull)
        await push_code(remote, Workspace(source, exclude=("large",)))
        found = await look(remote, source, source, disk)
        assert isinstance(found.refusal, NodeFull)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"plan",
        b"plan\0relative\0" + b"0\0" * 9,
        b"plan\0/x\0" + b"0\0" * 7 + b"0",
        b"plan\0/x" + b"\0-1" * 9,
        b"plan\0/x" + b"\0" + b"9" * 30 + b"\0000" * 8,
        b"plan\0/x" + b"\0000" * 9 + b"\0\0" + b"same\0/x",
        b"plan\0/x" + b"\0000" * 9 + b"\0\0" + b"nonsense\0/x",
        b"plan\0/x" + b"\0000" * 9 + b"\0x" * 99,
        b"done\0/x",
    ],
)
def test_a_node_that_lies_is_not_believed(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_preview("n", payload)
