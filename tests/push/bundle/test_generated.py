"""P1: what is nobody's source is never pushed: environments, caches, __pycache__; unless include names them."""

import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from asyncdeploy.push.bundle.scan import Listing, list_workspace
from asyncdeploy.values.workspace import Workspace
from tests.support.trees import commit, git, write

TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"


def scan(path: Path, **options: object) -> Listing:
    return list_workspace(Workspace(path, **options), Event())


def paths(path: Path, **options: object) -> set[str]:
    return {entry.path for entry in scan(path, **options).manifest.entries}


def make_venv(where: Path) -> None:
    """As ``python -m venv`` of Python 3.11 makes it: without a .gitignore inside."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", where], check=True)
    (where / ".gitignore").unlink(missing_ok=True)
    write(where, {"lib/x.json": "{}", "lib/__pycache__/x.pyc": "x"})


@pytest.fixture(params=["git", "committed", "plain"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project with an environment, in git (committed by mistake, too) or not."""
    root = tmp_path / "proj"
    write(root, {"a.py": "a"})
    if request.param == "git":
        commit(root)
    make_venv(root / ".venv")
    if request.param == "committed":
        commit(root)
    return root


def test_p1_an_environment_is_not_sent_and_that_is_said_once_with_its_size(project: Path) -> None:
    listing = scan(project)
    assert {entry.path for entry in listing.manifest.entries} == {"a.py"}
    (note,) = listing.notes
    assert note.startswith(".venv is a Python environment: it is not sent (")
    assert note.endswith(" MB); Workspace(include='.venv') sends it")


def test_p1_include_names_an_environment_or_a_part_of_it(project: Path) -> None:
    assert {".venv/pyvenv.cfg", ".venv/lib/x.json"} <= paths(project, include=".venv")
    assert paths(project, include=".venv/lib/x.json") == {"a.py", ".venv/lib/x.json"}
    assert paths(project, include="*.json") == {"a.py"}, "that names no environment"


def test_p1_a_link_to_an_environment_is_not_sent(tmp_path: Path) -> None:
    make_venv(tmp_path / "elsewhere")
    root = commit(tmp_path / "proj", {"a.py": "a", ".gitignore": ".venv/\n"})
    (root / ".venv").symlink_to("../elsewhere")
    listing = scan(root)
    assert {entry.path for entry in listing.manifest.entries} == {"a.py", ".gitignore"}
    assert listing.notes == (".venv is a link to an environment or a cache: it is not sent",)
    assert ".venv" in paths(root, include=".venv")


def test_p1_caches_and_conda_environments_are_not_sent(project: Path) -> None:
    write(project, {"build/CACHEDIR.TAG": TAG, "build/deep/x": "x", "conda/conda-meta/history": "", "conda/bin/x": ""})
    write(project, {"pkg/__pycache__/a.pyc": "1234", "__pycache__/b.pyc": "12", "pkg/b.py": "b"})
    write(project, {"data/CACHEDIR.TAG": "a file of that name is no tag", "data/x": "x"})
    listing = scan(project)
    assert {entry.path for entry in listing.manifest.entries} == {"a.py", "pkg/b.py", "data/CACHEDIR.TAG", "data/x"}
    notes = "\n".join(listing.notes)
    assert "build is a cache: it is not sent (2 files, 0.0 MB)" in notes
    assert "conda is a conda environment: it is not sent (2 files, 0.0 MB)" in notes
    assert "2 folders __pycache__ not sent (2 files, 0.0 MB)" in notes
    assert "pkg/__pycache__/a.pyc" in paths(project, include="__pycache__")


def test_p1_what_python_writes_beside_the_source_does_not_change_the_tree(project: Path) -> None:
    before = scan(project).manifest.digest
    write(project, {"__pycache__/a.pyc": "1", ".mypy_cache/CACHEDIR.TAG": TAG})
    assert scan(project).manifest.digest == before


def test_p1_a_workspace_that_is_an_environment_itself_is_sent(tmp_path: Path) -> None:
    make_venv(tmp_path / "venv")
    assert "pyvenv.cfg" in paths(tmp_path / "venv")


def test_p1_stores_of_other_version_controls_are_not_sent(project: Path) -> None:
    write(project, {".hg/hgrc": "secret", ".svn/entries": "x", "sub/.jj/x": "x"})
    assert paths(project) == {"a.py"}


def test_p3_a_folder_that_a_file_replaced_is_no_trouble(tmp_path: Path) -> None:
    root = commit(tmp_path / "proj", {"a.py": "a", "data/x": "x"})
    git(root, "sparse-checkout", "set", "--no-cone", "/a.py")
    (root / "data").write_text("a file")
    assert paths(root) == {"a.py", "data"}
