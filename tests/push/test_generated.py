"""P1, P14: what pushes of before brought and is nobody's source; and projects that say their own name."""

from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.values.errors import TransferFailed, WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import commit, git, tree, write


async def test_p1_an_environment_that_was_pushed_once_is_left_to_the_node(
    either: ShellRemote, source: Path, site: Path
) -> None:
    write(source, {".venv/pyvenv.cfg": "home = /usr", ".venv/lib/x.py": "x", "src/__pycache__/b.pyc": "1"})
    await push_code(either, Workspace(source, include=(".venv", "__pycache__")))  # as 0.1 did unasked
    write(site, {".venv/pyvenv.cfg": "made anew by uv", "src/__pycache__/b.pyc": "2"})
    write(source, {"a.py": "changed"})
    await push_code(either, source)
    assert (site / "a.py").read_text() == "changed"
    assert (site / ".venv/pyvenv.cfg").read_text() == "made anew by uv"
    assert (site / ".venv/lib/x.py").read_text() == "x"
    await push_code(either, source)
    assert details(either.events)[-1] == "= unchanged"


async def test_p1_what_is_included_on_purpose_is_kept_as_it_is_here(
    either: ShellRemote, source: Path, site: Path
) -> None:
    write(source, {".venv/pyvenv.cfg": "home = /usr", ".venv/lib/x.py": "x", ".venv/lib/y.py": "y"})
    workspace = Workspace(source, include=".venv")
    await push_code(either, workspace)
    (source / ".venv/lib/x.py").unlink()
    await push_code(either, workspace)
    assert tree(site) == tree(source)


# --- P14


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of one project that have nothing in common but its name: a clone without history, a download."""
    files = {"a.py": "a", "b.py": "b", "pyproject.toml": '[tool.asyncdeploy]\nname = "our model"\n'}
    one = commit(tmp_path / "one/proj", files)
    write(tmp_path / "two/proj", {**files, "a.py": "newer"})
    return one, tmp_path / "two/proj"


async def test_p14_a_project_that_says_its_name_is_the_same_from_everywhere(
    either: ShellRemote, twins: tuple[Path, Path], site: Path
) -> None:
    for source in (*twins, twins[0]):
        await push_code(either, source)
        assert (site / "a.py").read_text() == (source / "a.py").read_text()


async def test_p14_a_project_that_says_its_name_later_is_still_itself(
    either: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(either, source)
    write(source, {"pyproject.toml": '[tool.asyncdeploy]\nname = "ours"\n'})
    await push_code(either, source)
    assert tree(site) == tree(source)


async def test_p14_a_shallow_clone_is_told_how_to_say_its_name(either: ShellRemote, tmp_path: Path, site: Path) -> None:
    commit(commit(tmp_path / "one/proj", {"a.py": "a"}), {"b.py": "b"})
    (tmp_path / "two").mkdir()
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tmp_path}/one/proj", "two/proj")
    await push_code(either, tmp_path / "one/proj")
    with pytest.raises(WorkspaceConflict, match="another project") as caught:
        await push_code(either, tmp_path / "two/proj")
    assert "[tool.asyncdeploy] name" in caught.value.hint


async def test_p14_two_names_are_two_projects(either: ShellRemote, twins: tuple[Path, Path], site: Path) -> None:
    await push_code(either, twins[0])
    before = tree(site)
    write(twins[1], {"pyproject.toml": '[tool.asyncdeploy]\nname = "another"\n'})
    with pytest.raises(WorkspaceConflict, match="another project"):
        await push_code(either, twins[1])
    assert tree(site) == before


@pytest.mark.parametrize("text", ['name = ""', "name = 3", 'name = "a\\nb"', f'name = "{"x" * 201}"', "name = "])
async def test_p14_what_is_no_name_is_refused(remote: ShellRemote, source: Path, text: str) -> None:
    write(source, {"pyproject.toml": f"[tool.asyncdeploy]\n{text}\n"})
    with pytest.raises(TransferFailed, match=r"pyproject\.toml"):
        await push_code(remote, source)
