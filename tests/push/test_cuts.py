"""A receiver that is killed at any point leaves the old tree or the new one, and the next push goes on from there."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from asyncdeploy.push.push import finish_push, push_code
from asyncdeploy.values.errors import ConnectionLost, TransferFailed
from asyncdeploy.values.events import BytesMoved
from tests.support.events import details
from tests.support.remotes.killing import failing, killing
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need
from tests.support.trees import tree, write
from tests.support.waiting import eventually


def change_everything(root: Path) -> None:
    """Changes of each sort: content, mode, folder for file, file for folder, new and removed names."""
    write(root, {"src/b.py": "changed", "new/x/y": "y", "twin": "y"})
    (root / "run.sh").chmod(0o644)
    (root / "a.py").unlink()
    write(root, {"a.py/inside": "folder"})
    shutil.rmtree(root / "src" / "deep")
    write(root, {"src/deep": "file"})
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")


POINTS = [
    *(("renameat", count) for count in range(1, 9)),
    *(("unlinkat", count) for count in range(1, 8)),
    *(("utimensat", count) for count in (1, 3)),
    *(("fsync", 1), ("symlinkat", 1), ("fchmodat", 1), ("mkdirat", 2)),
]


@pytest.mark.parametrize("call, count", POINTS)
async def test_e4_e5_killed_at_any_point_it_is_the_old_tree_or_the_new_one(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path, call: str, count: int
) -> None:
    await push_code(remote, source)
    old = tree(source)
    change_everything(source)
    async with ShellRemote(tmp_path / "home", shell=killing(call, count)) as doomed:
        with pytest.raises(ConnectionLost):
            await push_code(doomed, source)
    if (site / ".asyncdeploy" / "journal").exists():
        async with ShellRemote(tmp_path / "home") as next_one:
            await finish_push(next_one, "~/proj")
        assert tree(site) == tree(source)
    else:
        assert tree(site) in (old, tree(source))
    assert not (site / ".asyncdeploy" / "journal").exists()
    await push_code(remote, source)
    assert tree(site) == tree(source)
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"
    assert list((site / ".asyncdeploy" / "staging").iterdir()) == []


async def test_e4_what_a_cut_push_staged_does_not_travel_again(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    write(source, {f"big{number}": os.urandom(100_000) for number in range(6)})
    async with ShellRemote(tmp_path / "home", shell=killing("fsync", 1)) as doomed:
        with pytest.raises(ConnectionLost):
            await push_code(doomed, source)
    assert tree(site) == {}
    staged = [path for path in (site / ".asyncdeploy" / "staging").iterdir() if path.lstat().st_size == 100_000]
    assert len(staged) == 6
    staged[0].write_bytes(b"torn")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert [event.total for event in remote.events if isinstance(event, BytesMoved)][-1] == 100_000


async def test_a_journal_that_lost_its_contents_brings_them_again(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    await push_code(remote, source)
    write(source, {"a.py": "second", "src/b.py": "second b", "x": "third"})
    async with ShellRemote(tmp_path / "home", shell=killing("renameat", 3)) as doomed:
        with pytest.raises(ConnectionLost):
            await push_code(doomed, source)
    assert (site / ".asyncdeploy" / "journal").exists()
    for staged in (site / ".asyncdeploy" / "staging").iterdir():
        staged.write_bytes(b"")  # as a node that lost power may leave them
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_swap_that_a_disk_broke_off_is_finished_over_the_connection_that_saw_it(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    """The connection has brought a whole tree before, and is not asked about that again: but now it is."""
    await push_code(remote, source)
    await finish_push(remote, "~/proj")
    change_everything(source)
    await remote.close()
    remote.shell = failing("renameat", "EIO", 3)
    with pytest.raises(TransferFailed):
        await push_code(remote, source)
    assert (site / ".asyncdeploy" / "journal").exists()
    await remote.close()
    remote.shell = ("sh", "-c")
    await finish_push(remote, "~/proj")
    assert tree(site) == tree(source)


async def test_a_torn_state_is_no_state(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    state = site / ".asyncdeploy" / "state"
    state.write_bytes(state.read_bytes()[:-100])
    write(source, {"new": "new"})
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_once_all_is_verified_our_death_does_not_stop_it(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    need("strace")
    await push_code(remote, source)
    change_everything(source)
    # The swap is slowed, and we are gone before its first rename is done.
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat")
    slow = (*slow, "-e", "inject=renameat:delay_enter=50000", "sh", "-c")
    async with ShellRemote(tmp_path / "home", shell=slow) as other, asyncio.TaskGroup() as group:
        task = group.create_task(push_code(other, source))
        await eventually((site / ".asyncdeploy" / "journal.new").exists, "the swap has begun")
        task.cancel()
    await eventually(lambda: tree(site) == tree(source), "the receiver finishes alone")
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"
