"""Which files of a workspace are sent, as git says it or a walk."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from asyncdeploy.push.bundle.blocks import BLOCK
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.bundle.project import project_id
from asyncdeploy.push.bundle.scan import Listing, list_workspace
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.tools import need


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


def test_git_says_what_is_sent(repository: Path) -> None:
    for name in ("new.py", "x.log", ".venv/lib", ".env", "gone.py"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(name)
    git(repository, "add", "gone.py")
    (repository / "gone.py").unlink()
    listing = scan(repository)
    assert [entry.path for entry in listing.manifest.entries] == [".gitignore", "a.py", "new.py"]
    assert any(".env is ignored" in note for note in listing.notes)


@pytest.mark.parametrize("name", ["id_rsa", "deep/id_ed25519", "cloud.pem", ".netrc", ".pgpass", ".env.local"])
def test_e17_what_looks_like_a_secret_and_is_sent_is_named(repository: Path, name: str) -> None:
    (repository / "deep").mkdir()
    (repository / name).write_text("hush")
    assert name in paths(repository)
    assert any(note.startswith(f"{name} looks like a secret") for note in scan(repository).notes)
    assert name not in paths(repository, exclude=name)


def test_g7_files_are_listed_and_hashed_beside_the_loop(repository: Path) -> None:
    """10 GB held the loop for their whole time else: nothing of a scan runs in the loop's own thread."""
    (repository / "large").write_bytes(bytes(3 << 20))
    seen: list[str] = []

    def look(frame: FrameType, _event: str, _arg: object) -> None:
        if frame.f_code.co_filename == list_workspace.__code__.co_filename:
            seen.append(frame.f_code.co_name)

    async def pack() -> str:
        before = sys.gettrace()
        sys.settrace(look)  # of this thread, which is the loop's
        try:
            async with pack_workspace(repository) as bundle:
                return bundle.digest
        finally:
            sys.settrace(before)

    assert asyncio.run(pack()) == scan(repository).manifest.digest
    assert seen == []


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


@pytest.mark.parametrize("inside", ["", "vendor/lib"])
@pytest.mark.parametrize("way", ["fsmonitor", "a fetch"])
def test_a_repository_runs_no_program_of_its_own_here(repository: Path, tmp_path: Path, way: str, inside: str) -> None:
    """An archive may hold a .git whose config names programs: listing its files is no reason to run them."""
    root = repository / inside
    if inside:
        root.mkdir(parents=True)
        git(root, "init", "-q")
        (root / "x.c").write_text("x")
        git(root, "add", ".")
        git(root, "commit", "-qm", "first")
    program = f"touch {tmp_path}/ran; false"
    if way == "fsmonitor":
        git(root, "config", "core.fsmonitor", program)
    else:  # of a commit that is not here, which a partial clone asks for
        git(root, "commit", "-qm", "second", "--allow-empty")
        first = subprocess.run(["git", "rev-parse", "HEAD~"], cwd=root, check=True, capture_output=True, text=True)
        (root / ".git/objects" / first.stdout[:2] / first.stdout.strip()[2:]).unlink()
        for name, value in (
            ("core.repositoryFormatVersion", "1"),
            ("extensions.partialClone", "origin"),
            ("remote.origin.url", "ssh://192.0.2.1/x"),
            ("remote.origin.promisor", "true"),
            ("core.sshCommand", program),
            ("protocol.ssh.allow", "always"),
        ):
            git(root, "config", name, value)
    assert {"a.py", *([f"{inside}/x.c"] if inside else [])} <= set(paths(repository))
    project_id(root)
    assert not (tmp_path / "ran").exists()


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
    assert "2 links lead out of the workspace; they are sent as they are: out -> /etc/passwd, up -> ../x" in notes
    assert "loop" not in notes
    assert "pipe is a socket, FIFO or device" in notes


def test_what_many_names_have_in_common_is_said_once(tmp_path: Path) -> None:
    for number in range(20):
        os.mkfifo(tmp_path / f"pipe{number:02}")
        (tmp_path / f"key{number:02}.pem").write_text("")
    odd, secrets = scan(tmp_path).notes
    assert odd == "20 sockets, FIFOs or devices are not sent: pipe00, pipe01, pipe02 and 17 more"
    assert secrets.startswith(
        "20 files look like secrets and are sent (Workspace(exclude=...) keeps them here): key00.pem,"
    )


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


async def test_nodes_that_need_the_same_share_one_list_of_blocks(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 2 * BLOCK), ("c", 30)):
        (tmp_path / name).write_bytes(os.urandom(size))
    async with pack_workspace(tmp_path) as bundle:
        every, fewer = bundle.blocks([0, 1, 2], {}), bundle.blocks([0, 2], {})
        assert bundle.blocks([0, 1, 2], {}) is every
        assert bundle.blocks([0, 2], {}) is fewer
        assert (every.size, fewer.size) == (2 * BLOCK + 40, 40)
        assert sum(piece.length for block in every for piece in block) == every.size
