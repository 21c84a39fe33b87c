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
    near = _nearest(path, [name for name, kind in kinds.items() if kind == "file"])
    raise ValueError(f"{what}" + (f"; did you mean '{shown(near)}'?" if near else ""))


def _nearest(path: str, names: list[str]) -> str:
    """Return which file was probably meant, "" if none is near: one of that name, of nearly that path, nearly that name
    in whatever folder; and of that kind (.py) before all others.
    """
    name, kind = PurePosixPath(path).name, PurePosixPath(path).suffix
    for looked_at in ([each for each in names if each.endswith(kind)][:MOST_LOOKED_AT], names[:MOST_LOOKED_AT]):
        own = {PurePosixPath(each).name.lower(): each for each in reversed(looked_at)}
        if name.lower() in own:
            return own[name.lower()]
        if near := difflib.get_close_matches(path, looked_at, 1):
            return near[0]
        if near := difflib.get_close_matches(name.lower(), own, 1):
            return own[near[0]]
    return ""
