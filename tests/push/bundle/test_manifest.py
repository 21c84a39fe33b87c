"""The tree as data, which files are sent, and the patterns that say so."""

import os
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdeploy.push.bundle.blocks import Piece, cut_blocks
from asyncdeploy.push.bundle.file_list import project_id
from asyncdeploy.push.bundle.manifest import Difference, Entry, Manifest, difference
from asyncdeploy.push.bundle.scan import Listing, list_workspace
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.patterns import Patterns
from asyncdeploy.values.workspace import Workspace
from tests.support.tools import need

SHA = "ab" * 32


def scan(path: Path, **options: object) -> Listing:
    return list_workspace(Workspace(path, **options), threading.Event())


def paths(path: Path, **options: object) -> list[str]:
    return [entry.path for entry in scan(path, **options).manifest.entries]


def git(folder: Path, *args: str) -> None:
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *names, *args], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    need("git")
    root = tmp_path / "proj"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a.py").write_text("a")
    (root / ".gitignore").write_text("*.log\n.venv/\n.env\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


# --- the tree as data


def test_a_manifest_survives_bytes_with_any_name() -> None:
    entries = [
        Entry("a\nb", size=3, sha256=SHA, mode=0o755, mtime_ns=2**62),
        Entry("-rf", "link", 0, target="\udcff/x"),
        Entry("\udcff\udcfe", sha256=SHA),
        Entry("empty", "dir", 0o700),
        Entry("x" * 255, sha256=SHA),
    ]
    manifest = Manifest(entries)
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.digest == manifest.digest
    assert [os.fsencode(e.path) for e in manifest.entries] == sorted(os.fsencode(e.path) for e in entries)


def test_the_digest_names_content_mode_and_target_but_not_time() -> None:
    base = Manifest([Entry("a", sha256=SHA), Entry("l", "link", 0, target="a")])
    assert Manifest([Entry("a", sha256=SHA, mtime_ns=5), Entry("l", "link", 0, target="a")]).digest == base.digest
    others = [
        Manifest([Entry("a", sha256="cd" * 32), Entry("l", "link", 0, target="a")]),
        Manifest([Entry("a", sha256=SHA, mode=0o755), Entry("l", "link", 0, target="a")]),
        Manifest([Entry("a", sha256=SHA), Entry("l", "link", 0, target="b")]),
        Manifest([Entry("b", sha256=SHA), Entry("l", "link", 0, target="a")]),
        Manifest([]),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


@pytest.mark.parametrize("path", ["", "/a", "a/../b", "..", "a//b", "./a", "a/", "x" * 256, "d/" * 2001 + "x", "a\0b"])
def test_a_path_that_no_node_may_get_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"path"):
        Manifest([Entry(path, sha256=SHA)])


def test_a_path_twice_or_below_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Manifest([Entry("a"), Entry("a")])
    with pytest.raises(ValueError, match="below a file"):
        Manifest([Entry("a"), Entry("a-b"), Entry("a/b")])
    assert len(Manifest([Entry("a", "dir"), Entry("a/b")]).entries) == 2


@pytest.mark.parametrize("data", [b"", b"asyncdeploy-manifest 2", b"asyncdeploy-manifest 1\0f", b"x" * 100])
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_bytes(data)


def test_the_difference_of_two_trees() -> None:
    old = Manifest([Entry("a", sha256=SHA), Entry("b", sha256=SHA), Entry("c", sha256=SHA), Entry("d", sha256=SHA)])
    new = Manifest(
        [
            Entry("b", sha256="cd" * 32),
            Entry("c", sha256=SHA, mode=0o755),
            Entry("d", sha256=SHA, mtime_ns=9),
            Entry("e"),
        ]
    )
    assert difference(old, new) == Difference(added=("e",), removed=("a",), changed=("b",), modes=("c",))
    assert not difference(new, new)


@given(st.lists(st.integers(1, 3000), max_size=40))
@settings(max_examples=60, deadline=None)
def test_blocks_hold_every_byte_once_in_order_and_are_bounded(sizes: list[int]) -> None:
    blocks = cut_blocks([Piece(number, 0, size) for number, size in enumerate(sizes)], limit=1000)
    pieces = [piece for block in blocks for piece in block]
    assert all(0 < sum(piece.length for piece in block) <= 1000 for block in blocks)
    covered = [(piece.content, piece.start + at) for piece in pieces for at in range(piece.length)]
    assert covered == [(number, at) for number, size in enumerate(sizes) for at in range(size)]


# --- which files are sent


def test_git_says_what_is_sent(repository: Path) -> None:
    for name in ("new.py", "x.log", ".venv/lib", ".env", "gone.py"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(name)
    git(repository, "add", "gone.py")
    (repository / "gone.py").unlink()
    listing = scan(repository)
    assert [entry.path for entry in listing.manifest.entries] == [".gitignore", "a.py", "new.py"]
    assert any(".env is ignored" in note for note in listing.notes)


def test_include_brings_back_what_git_ignores_and_exclude_wins(repository: Path) -> None:
    for name in ("x.log", "deep/y.log", ".env", "b.py"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(name)
    sent = paths(repository, include=(".env", "*.log"), exclude=("deep/", "b.py"))
    assert sent == [".env", ".gitignore", "a.py", "x.log"]
    assert any(".env looks like a secret" in note for note in scan(repository, include=".env").notes)
    (repository / ".asyncdeployignore").write_text("# ours\na.py\n")
    assert "a.py" not in paths(repository)


def test_a_repository_inside_is_listed_by_its_own_rules(repository: Path) -> None:
    inner = repository / "vendor" / "lib"
    inner.mkdir(parents=True)
    git(inner, "init", "-q")
    (inner / "x.c").write_text("x")
    (inner / "x.o").write_text("o")
    (inner / ".gitignore").write_text("*.o\n")
    assert paths(repository) == [".gitignore", "a.py", "vendor/lib/.gitignore", "vendor/lib/x.c"]


def test_a_hook_does_not_make_us_list_another_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert paths(repository) == [".gitignore", "a.py"]


def test_without_git_the_folder_is_walked(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    for name in ("a.py", "sub/b.py", "sub/skip.log", "build/x", ".asyncdeploy/state", "sub/.git/config"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "empty" / "deep").mkdir(parents=True)
    (root / ".gitignore").write_text("/build\n")
    (root / "sub" / ".gitignore").write_text("*.log\n")
    assert paths(root) == [".gitignore", "a.py", "empty/deep", "sub/.gitignore", "sub/b.py"]


def test_links_stay_links_and_odd_things_are_noted(tmp_path: Path) -> None:
    root = tmp_path / "proj"
    root.mkdir()
    (root / "out").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../x")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    listing = scan(root)
    assert {(entry.path, entry.kind, entry.target) for entry in listing.manifest.entries} == {
        ("out", "link", "/etc/passwd"),
        ("up", "link", "../x"),
        ("loop", "link", "loop"),
    }
    notes = "\n".join(listing.notes)
    assert "out is a link that leads out" in notes
    assert "up is a link that leads out" in notes
    assert "loop" not in notes
    assert "pipe is a socket, FIFO or device" in notes


def test_git_in_the_folder_but_not_installed_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="git is needed"):
        paths(repository)


def test_a_workspace_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="a folder was expected"):
        scan(tmp_path / "absent")


def test_e9_a_file_that_never_holds_still_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * (8 << 20))

    class Writer(threading.Event):
        """Writes whenever the scan asks whether to stop, which it does while it reads; a thread may come too late."""

        def is_set(self) -> bool:
            with (tmp_path / "log").open("ab") as file:
                file.write(b"y")
            return False

    with pytest.raises(TransferFailed, match="log changed while it was read"):
        list_workspace(Workspace(tmp_path), Writer())


def test_clones_of_a_repository_are_one_project_and_plain_folders_are_not(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(repository), "clone")
    assert project_id(repository) == project_id(tmp_path / "clone")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert len({project_id(tmp_path / name) for name in ("one", "two", "clone")}) == 3


# --- patterns, beside git's own


PATTERN = st.text("ab*?/!#\\[]-. ", min_size=1, max_size=7)
NAMES = ["a", "b", "ab", "a/b", "a/a/b", "b/a", "a.b", "b/ab/a", "!a", "#a", "a b", "-"]


@given(st.lists(PATTERN, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_patterns_mean_what_git_means(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    need("git")
    root = tmp_path_factory.getbasetemp() / "patterns"
    if not root.exists():
        root.mkdir()
        git(root, "init", "-q")
    (root / ".gitignore").write_text("\n".join(lines) + "\n")
    names = "\0".join(NAMES).encode()
    line = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    found = subprocess.run(line, cwd=root, input=names, capture_output=True, check=False)
    ignored = set(found.stdout.decode().split("\0")) - {""}
    patterns = Patterns(lines)
    assert {name for name in NAMES if patterns.match(name)} == ignored
