"""What tells one project from another, so that none is pushed over another. Blocking code."""

from __future__ import annotations

import os
import platform
import tomllib
from pathlib import Path

from asyncdeploy.push.bundle.file_list import git, in_git
from asyncdeploy.values.errors import TransferFailed

MAX_NAME = 200
"""Letters of a project's own name."""


def project_ids(root: Path) -> tuple[str, str]:
    """Return what tells a project from others; and what did before it said its own name, "" where it says none.

    Raises:
        TransferFailed: the name that it says of itself is none.
    """
    name, by_place = own_name(root), project_id(root)
    return (f"named {name}", by_place) if name else (by_place, "")


def own_name(root: Path) -> str:
    """Return the ``name`` in ``[tool.asyncdeploy]`` of a folder's pyproject.toml, "" if there is none.

    Raises:
        TransferFailed: it is no name.
    """
    path = root / "pyproject.toml"
    try:
        data = path.read_bytes()
    except OSError:
        return ""  # none, or the scan has said why not
    if b"asyncdeploy" not in data:
        return ""
    hint = 'write [tool.asyncdeploy] with name = "..." below it'
    try:
        tool = tomllib.loads(data.decode()).get("tool", {})
        table = tool.get("asyncdeploy", {}) if isinstance(tool, dict) else {}
    except ValueError as error:
        raise TransferFailed("", f"{path} is no TOML: {error}", hint, path=str(path)) from None
    if isinstance(table, dict) and "name" not in table:
        return ""
    name = table["name"] if isinstance(table, dict) else table
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        what = (
            f"{path}, [tool.asyncdeploy] name: a printable text of 1 to {MAX_NAME} letters was expected, got {name!r}"
        )
        raise TransferFailed("", what, hint, path=str(path))
    return name


def project_id(root: Path) -> str:
    """Return what tells one project from another: the same for every clone of a repository, wherever it lies.

    It is the hash of the repository's first commit and the folder's place in it; where there is none (no git, no
    commit, a shallow clone) it is this machine's name and the folder's path, so that two folders of one name stay two.
    """
    alone = f"{platform.node()}:{os.path.realpath(root)}"
    if not in_git(root):
        return alone
    if git(root, "rev-parse", "--is-shallow-repository", statuses=tuple(range(256))).stdout.strip() != b"false":
        return alone
    roots = git(root, "rev-list", "--max-parents=0", "HEAD", statuses=tuple(range(256))).stdout.split()
    place = git(root, "rev-parse", "--show-prefix").stdout.strip()
    return f"{min(roots).decode()}/{os.fsdecode(place)}" if roots else alone
