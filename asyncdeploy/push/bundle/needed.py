"""A file that must be among what is sent, as the program of a launch: found missing before a node is touched."""

from __future__ import annotations

import difflib
import os
from pathlib import PurePosixPath

from asyncdeploy.push.bundle.manifest import Manifest, shown
from asyncdeploy.values.workspace import Workspace

MOST_LOOKED_AT = 5000
"""Of names that may have been meant; to compare one takes 20 us."""


def check_needed(manifest: Manifest, workspace: Workspace, path: str) -> None:
    """Raise ValueError unless a path of the workspace is sent, or lies behind a link, where nobody can tell.

    Args:
        manifest: what is sent.
        workspace: of which folder.
        path: relative to its top, without "." and "..".
    """
    kinds = {entry.path: entry.kind for entry in manifest.entries}
    folders = [path[:number] for number, letter in enumerate(path) if letter == "/"]
    if (
        kinds.get(path) in ("file", "link")
        or f"{path}/__main__.py" in kinds
        or any(kinds.get(folder) == "link" for folder in folders)
    ):
        return
    what = f"'{shown(path)}' is not among the files that are sent of {workspace.path}"
    if os.path.lexists(workspace.path / path) and not (workspace.path / path).is_dir():
        raise ValueError(f"{what}: it is there, but git ignores it or exclude names it; Workspace(include=) sends it")
    suffix = PurePosixPath(path).suffix
    names = [name for name, kind in kinds.items() if kind == "file" and name.endswith(suffix)][:MOST_LOOKED_AT]
    alike = [name for name in names if PurePosixPath(name).name == PurePosixPath(path).name]
    near = alike or difflib.get_close_matches(path, names, 1)
    raise ValueError(f"{what}" + (f"; did you mean '{shown(near[0])}'?" if near else ""))
