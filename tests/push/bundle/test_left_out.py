"""Ring 1: what of a workspace is not sent, and why: every name on the disk is sent or told."""

import os
import threading
from pathlib import Path

from asyncdeploy.push.bundle.left_out import left_out
from asyncdeploy.push.bundle.scan import list_workspace
from asyncdeploy.values.workspace import Workspace
from tests.support.trees import commit, git, write


def told(workspace: Workspace) -> dict[str, str]:
    """What is not sent; every name of the folder is sent, told, or lies in a folder that is."""
    manifest = list_workspace(workspace, threading.Event()).manifest
    found = dict(left_out(workspace, manifest))
    sent = {entry.path for entry in manifest.entries if entry.kind != "absent"}
    for folder, folders, files in os.walk(workspace.path):
        for name in [*files, *folders]:
            path = str((Path(folder) / name).relative_to(workspace.path))
            is_told = path in found or any(path == each.rstrip("/") or path.startswith(each) for each in found)
            holds = any(each.startswith(f"{path}/") for each in (*sent, *found))
            assert (path in sent) + is_told == 1 or (holds and not is_told), path
    return found


def test_in_git_the_rule_is_named(project: Path) -> None:
    write(project, {"a.py": "", ".gitignore": "*.log\n/data/\n!keep.log\nnames/*\n", "src/.gitignore": "made.py\n"})
    commit(project)
    write(project, {"a.log": "", "data/x": "", "data/y": "", "src/made.py": "", "names/x": "", "keep.log": ""})
    (project / "empty").mkdir()
    assert told(Workspace(project)) == {
        ".git/": "never sent",
        "a.log": ".gitignore:1: *.log",
        "data/": ".gitignore:2: /data/",
        "empty/": "an empty folder",
        "names/x": ".gitignore:4: names/*",
        "src/made.py": "src/.gitignore:1: made.py",
    }


def test_a_rule_that_brings_back_is_no_reason(project: Path) -> None:
    write(project, {"a.py": "", ".gitignore": "*\n!a.py\n!.gitignore\n!data/\n", "data/x": ""})
    git(project, "init", "-q")
    assert told(Workspace(project)) == {".git/": "never sent", "data/x": ".gitignore:1: *"}


def test_our_own_rules_are_named(project: Path) -> None:
    write(project, {"a.py": "", ".asyncdeployignore": "docs/\n", "docs/x": "", "big/x.bin": "", "big/y.py": ""})
    write(project, {"venv/pyvenv.cfg": "", "venv/bin/x": "", "sub/__pycache__/x.pyc": "", "sub/x.py": ""})
    os.mkfifo(project / "pipe")
    expected = {
        "big/x.bin": "exclude",
        "docs/": ".asyncdeployignore",
        "pipe": "a socket, FIFO or device",
        "sub/__pycache__/": "a cache",
        "venv/": "a Python environment",
    }
    workspace = Workspace(project, exclude=("*.bin",))
    assert told(workspace) == expected
    git(project, "init", "-q")
    assert told(workspace) == {".git/": "never sent", **expected}


def test_without_git_the_file_is_named(project: Path) -> None:
    write(
        project, {"a.py": "", ".gitignore": "*.log\n", "a.log": "", "sub/.gitignore": "x\n", "sub/x": "", "sub/y": ""}
    )
    assert told(Workspace(project)) == {"a.log": ".gitignore", "sub/x": "sub/.gitignore"}


def test_what_is_asked_for_by_name_is_sent(project: Path) -> None:
    write(project, {"a.py": "", ".gitignore": "data/\n", "data/x": "", "data/y": ""})
    git(project, "init", "-q")
    assert told(Workspace(project, include=("data/x",))) == {".git/": "never sent", "data/y": ".gitignore:1: data/"}


def test_a_repository_inside_has_rules_of_its_own(project: Path) -> None:
    write(project, {"a.py": "", "dep/b.py": "", "dep/.gitignore": "*.o\n", "dep/b.o": ""})
    commit(project / "dep")
    git(project, "init", "-q")
    found = told(Workspace(project))
    assert found == {".git/": "never sent", "dep/.git/": "never sent", "dep/b.o": ".gitignore:1: *.o"}


def test_names_that_no_terminal_should_see_are_only_data(project: Path) -> None:
    write(project, {"a.py": "", ".gitignore": "*.log\n", "x\n\x1b[2J.log": "", "\udcff.log": ""})
    git(project, "init", "-q")
    found = told(Workspace(project))
    assert found["x\n\x1b[2J.log"] == found["\udcff.log"] == ".gitignore:1: *.log"
