"""What is no longer in the workspace: removed on the node, kept there, or asked about."""

import shutil
from pathlib import Path

import attrs
import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.values.errors import WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.events import details, notes
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import commit, git, tree, write

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 12345678\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with code, and with data in folders."""
    files = {f"data/part/{number}": f"data {number}" for number in range(6)}
    return commit(tmp_path / "proj", {"a.py": "code", "lib/b.py": "more code", "data/top": "data", **files})


# --- P3: what is not checked out here


@pytest.mark.parametrize("cone", [True, False])
async def test_p3_what_a_sparse_checkout_leaves_out_stays_on_the_node(
    either: ShellRemote, repository: Path, site: Path, cone: bool
) -> None:
    await push_code(either, repository)
    before = tree(site)
    git(repository, "sparse-checkout", "set", "--cone" if cone else "--no-cone", "lib" if cone else "/lib/\n/a.py")
    assert not (repository / "data").exists()
    write(repository, {"lib/b.py": "changed"})
    await push_code(either, repository)
    assert tree(site) == {**before, **tree(repository / "lib", "lib/")}
    assert len(notes(either.events, "not checked out here (git sparse-checkout)")) == 1
    await push_code(either, repository)
    assert details(either.events)[-1] == "= unchanged"


async def test_p3_what_a_sparse_checkout_leaves_out_is_not_missed_where_it_never_was(
    either: ShellRemote, repository: Path, site: Path
) -> None:
    git(repository, "sparse-checkout", "set", "lib")
    await push_code(either, repository)
    assert tree(site) == {name: what for name, what in tree(repository).items() if not name.startswith(".git")}
    git(repository, "sparse-checkout", "disable")
    await push_code(either, repository)
    assert (site / "data/part/3").read_text() == "data 3"


async def test_p3_a_file_that_is_removed_for_good_goes_once_that_is_known(
    either: ShellRemote, repository: Path, site: Path
) -> None:
    await push_code(either, repository)
    git(repository, "sparse-checkout", "set", "lib")
    await push_code(either, repository)
    git(repository, "rm", "-q", "--cached", "--sparse", "data/top")
    git(repository, "commit", "-qm", "gone")
    await push_code(either, repository)
    assert not (site / "data/top").exists()
    assert (site / "data/part/5").exists()


async def test_p3_what_was_edited_meanwhile_on_the_node_is_no_conflict_while_it_is_not_checked_out(
    either: ShellRemote, repository: Path, site: Path
) -> None:
    await push_code(either, repository)
    git(repository, "sparse-checkout", "set", "lib")
    write(site, {"data/top": "edited"})
    write(repository, {"lib/b.py": "changed"})
    await push_code(either, repository)
    assert (site / "data/top").read_text() == "edited"
    git(repository, "sparse-checkout", "disable")
    with pytest.raises(WorkspaceConflict, match="data/top"):
        await push_code(either, repository)


async def test_p3_a_submodule_that_is_not_checked_out_any_more_stays_on_the_node(
    either: ShellRemote, repository: Path, site: Path, tmp_path: Path
) -> None:
    git(repository, "submodule", "add", "-q", str(commit(tmp_path / "lib", {"x.c": "int x;"})), "vendor/lib")
    commit(repository)
    await push_code(either, repository)
    git(repository, "submodule", "deinit", "-q", "--all")
    write(repository, {"a.py": "changed"})
    await push_code(either, repository)
    assert (site / "vendor/lib/x.c").read_text() == "int x;"
    assert (site / "a.py").read_text() == "changed"
    assert notes(either.events, "vendor/lib is a submodule that is not checked out")


async def test_p3_a_pointer_of_git_lfs_does_not_take_the_place_of_its_content(
    either: ShellRemote, repository: Path, site: Path
) -> None:
    write(repository, {"model.bin": "the content"})
    await push_code(either, repository)
    write(repository, {"model.bin": POINTER, "other.bin": POINTER, "a.py": "changed"})
    await push_code(either, repository)
    assert (site / "model.bin").read_text() == "the content"
    assert not (site / "other.bin").exists()
    assert notes(either.events, "Git LFS pointers, whose contents are not here (git lfs pull): model.bin, other.bin")
    await push_code(either, Workspace(repository, include="other.bin"))
    assert (site / "other.bin").read_text() == POINTER


# --- P19: a workspace that was emptied


async def test_p19_an_emptied_workspace_takes_nothing_away_unless_that_is_asked_for(
    either: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(either, source)
    before = tree(site)
    shutil.rmtree(source)
    source.mkdir()
    for left in ({}, {"lost+found/x": "x"}):
        write(source, left)
        with pytest.raises(
            WorkspaceConflict, match=r"5 of the 6 names that were pushed to .* are no longer in"
        ) as caught:
            await push_code(either, source)
        assert "on_emptied='remove'" in caught.value.hint
        assert "a.py" in caught.value.message
        assert tree(site) == before
    await push_code(either, Workspace(source, on_emptied="remove"))
    assert tree(site) == tree(source)


async def test_p19_an_emptied_workspace_in_git_takes_nothing_away(
    either: ShellRemote, repository: Path, site: Path
) -> None:
    await push_code(either, repository)
    before = tree(site)
    for path in repository.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(WorkspaceConflict, match="no longer in the workspace"):
        await push_code(either, repository)
    assert tree(site) == before


async def test_p19_another_branch_takes_nothing_away(either: ShellRemote, repository: Path, site: Path) -> None:
    await push_code(either, repository)
    before = tree(site)
    git(repository, "switch", "-q", "--orphan", "pages")
    commit(repository, {"index.html": "<html>"})
    with pytest.raises(WorkspaceConflict, match="is it the right branch") as caught:
        await push_code(either, Workspace(repository, on_conflict="overwrite"))
    assert "9 of the 9 names" in caught.value.message
    assert tree(site) == before


async def test_p19_a_data_disk_that_is_not_mounted_takes_nothing_away(
    either: ShellRemote, source: Path, site: Path
) -> None:
    write(source, {f"data/{number}": f"{number}" for number in range(30)})
    await push_code(either, source)
    before = tree(site)
    shutil.rmtree(source / "data")
    (source / "data").mkdir()
    with pytest.raises(WorkspaceConflict, match="30 of the 36 names"):
        await push_code(either, source)
    assert tree(site) == before


async def test_p19_ordinary_changes_are_not_asked_about(either: ShellRemote, source: Path, site: Path) -> None:
    many = {f"old/{number}": f"content {number}" for number in range(30)}
    write(source, many)
    await push_code(either, source)
    (source / "old").rename(source / "new")  # all of it elsewhere is no loss
    await push_code(either, source)
    assert tree(site) == tree(source)
    for number in range(9):
        (source / f"new/{number}").unlink()
    await push_code(either, source)
    assert tree(site) == tree(source)


async def test_p19_taking_a_site_over_asks_for_both(
    either: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    await push_code(either, source)
    write(tmp_path / "other", {"b.py": "other"})
    over = Workspace(tmp_path / "other", remote_path="~/proj", on_conflict="overwrite")
    with pytest.raises(WorkspaceConflict, match="no longer in the workspace"):
        await push_code(either, over)
    await push_code(either, attrs.evolve(over, on_emptied="remove"))
    assert tree(site) == tree(tmp_path / "other")
