"""Texts that are shipped with the package: shell programs, and Python programs that run on a node."""

from __future__ import annotations

import functools
import importlib.resources
import shlex
from pathlib import PurePosixPath


@functools.cache
def packaged_text(path: str) -> str:
    """Return a shipped text.

    Args:
        path: where it lies below the package, "node_side/run/run.sh".
    """
    return importlib.resources.files("asyncdeploy").joinpath(path).read_text("ascii")


@functools.cache
def is_packaged(path: str) -> bool:
    """Return whether a file of that name below the package is shipped."""
    return importlib.resources.files("asyncdeploy").joinpath(path).is_file()


def sh_line(path: str, *words: str) -> str:
    """Return a line that runs a shipped shell program, for the end of any other line.

    Args:
        path: where it lies below the package, "node_side/envs/env.sh".
        words: its positional parameters.
    """
    return shlex.join(["sh", "-c", packaged_text(path), f"asyncdeploy-{PurePosixPath(path).stem}", *words])


def python_word(path: str) -> str:
    """Return a shipped Python program as the word behind ``python -c``; it sees no file of the folder it is started in.

    There -I would do, but that also leaves out PYTHONPATH, by which some environments have their packages.

    Args:
        path: where it lies below the package, "node_side/envs/inspect_env.py".
    """
    return f"import sys; sys.path[:] = [path for path in sys.path if path]\n{packaged_text(path)}"
