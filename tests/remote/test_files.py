"""Files on a node are written whole or not at all, and folders of ours are ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncdeploy.node_side import files
from tests.support.places import ROOT

SMALL_DISK = """
import resource, sys
from asyncdeploy.node_side.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_whole(sys.argv[1], b"x" * 2000)
"""


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    files.write_whole(str(tmp_path / "file"), b"before")
    words = [sys.executable, "-c", SMALL_DISK, str(tmp_path / "file")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


def test_a_folder_that_is_no_folder_of_ours_is_not_used(tmp_path: Path) -> None:
    assert files.make_own(str(tmp_path / "new")) == files.make_own(str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with pytest.raises(PermissionError, match="is not a folder of ours"):
        files.make_own(str(tmp_path / "link"))


@pytest.mark.parametrize(
    "path,home,wanted",
    [
        (b"~", b"/home/a", b"/home/a"),
        (b"~/x", b"/home/a", b"/home/a/x"),
        (b"~/x", b"/", b"/x"),
        (b"~", b"/", b"/"),
        (b"~notes", b"/home/a", b"~notes"),
        (b"/x/~", b"/home/a", b"/x/~"),
        (b"~/x", None, os.fsencode(files.home().rstrip("/")) + b"/x"),
    ],
)
def test_the_tilde_is_the_home_folder_and_nothing_else(path: bytes, home: bytes | None, wanted: bytes) -> None:
    assert files.expand(path, home) == wanted
