"""What environments use of this machine: programs beside us, a cache of what was made here, the hashes of files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from asyncdeploy.envs.known_errors import find_hint
from asyncdeploy.tasks.programs import run_blocking
from asyncdeploy.values.account import home_folder
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.words import last_lines

MAKE_S = 7200.0
"""torch and its CUDA wheels are 3 GB, and what no cache of nix's has is built here, which may be a CUDA."""


def beside_us(tool: str, hint: str = "pip install 'asyncdeploy[uv]'") -> str:
    """Return the path of a program that is installed beside us, or on PATH.

    Raises:
        ToolMissing: there is none.
    """
    path = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if path is None:
        raise ToolMissing("", f"{tool} is not on this machine", hint, tool=tool)
    return path


@attrs.frozen
class Making:
    """How something is made here.

    Attributes:
        folder: where programs start: the project's.
        hint: what to do when one fails.
        env: their whole environment; None is ours.
    """

    folder: Path
    hint: str = ""
    env: Mapping[str, str] | None = attrs.field(default=None, repr=False)


def run_here(
    words: Sequence[str], making: Making, what: str, *, stdin: str = "", stdout: BinaryIO | None = None
) -> str:
    """Run a program that has part in making something here, and return what it says.

    Args:
        words: the program and its arguments.
        making: how.
        what: what is not there if it fails, as an error's message.
        stdin: what it is told.
        stdout: a file that takes what it says.

    Raises:
        TransferFailed: it fails, or is not done in time.
    """
    folder = making.folder
    try:
        done = run_blocking(words, folder=folder, stdin=stdin.encode(), stdout=stdout, within_s=MAKE_S, env=making.env)
    except TimeoutError:
        raise TransferFailed("", what, "", f"{words[0]} was not done within {MAKE_S:.0f} s", str(folder)) from None
    if done.status:
        text = (done.stderr or done.stdout).decode("utf-8", "replace")
        raise TransferFailed("", what, find_hint(text) or making.hint, last_lines(text), str(folder))
    return done.stdout.decode("utf-8", "surrogateescape")


def cache_folder(name: str) -> Path:
    """Return the folder of one kind of things that we made; it need not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home_folder() / ".cache") / "asyncdeploy" / name


def keep_newest(cache: Path, count: int) -> None:
    """Remove all but the folders that were used last; one without a ``listed.json`` is being made, and stays."""
    known = [path for path in cache.iterdir() if (path / "listed.json").is_file()]
    for old in sorted(known, key=lambda path: path.stat().st_mtime)[:-count]:
        shutil.rmtree(old, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, hex; it is read in small pieces: a wheel may be gigabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
