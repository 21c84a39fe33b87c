"""What the import of asyncssh starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = "import ctypes.util as c; usual = c.find_library; import asyncdeploy; asyncdeploy.Pool"
COMPILERS = ("gcc", "cc", "ld")


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A file that names the compilers that were started, which stand first on PATH."""
    (tmp_path / "bin").mkdir()
    for name in COMPILERS:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/started\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path / "started"


def run(started: Path, code: str, **env: str) -> str:
    path = f"{started.parent}/bin:{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    return subprocess.check_output([sys.executable, "-c", code], env={**plain, "PATH": path, **env}, text=True).strip()


def test_no_compiler_is_started_for_libraries_that_are_not_there(started: Path) -> None:
    assert run(started, f"{LOOK}; print(c.find_library is usual)") == "True"
    assert not started.exists()
    # So the name above is right: without us, on the same machine, it is looked for with them unless it is installed.
    run(started, "import ctypes.util; ctypes.util.find_library('asyncdeploy-has-no-such-library')")
    assert set(started.read_text().split()) == {"gcc", "ld"}


def test_where_libraries_lie_elsewhere_they_are_looked_for_as_ever(started: Path, tmp_path: Path) -> None:
    known = run(started, "import ctypes.util; print(ctypes.util.find_library('oqs'))")
    started.unlink(missing_ok=True)
    run(started, LOOK, LD_LIBRARY_PATH=str(tmp_path))
    assert started.exists() == (known == "None")
