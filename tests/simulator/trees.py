"""Workspaces that are pushed, version after version, and what stands of them on a node's disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs

from asyncdeploy.values.workspace import Workspace

Tree = dict[str, bytes]

WRITTEN = 1_700_000_000
"""When files were written, seconds since 1970: what a push says of them is the same each time."""


def tree(version: int) -> Tree:
    """Return the files of a version; some stay, some change, some come and go."""
    text = f"version {version}\n".encode()
    return {
        "same.txt": b"the same in all\n",
        "a.txt": text,
        "dir/b.txt": text * (version + 2),
        f"dir/only-{version % 3}.txt": text,
        f"deep/{version % 2}/c.bin": bytes([version % 256]) * (50_000 + version),
        **({"dir2": text} if version % 2 else {"dir2/inside": text}),
    }


@attrs.define(eq=False)
class Trees:
    """The client's workspace, and each node's site.

    Attributes:
        version: of the workspace as it is now.
    """

    root: Path
    version: int = 0

    def edit(self) -> None:
        """Make the next version."""
        self.version += 1
        folder = self.root / "client" / "workspace"
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in tree(self.version).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            os.utime(folder / name, (WRITTEN + self.version, WRITTEN + self.version))

    def workspace(self, node: str) -> Workspace:
        """Return what is pushed to a node."""
        return Workspace(self.root / "client" / "workspace", remote_path=str(self.root / node / "site"))

    def found(self, node: str) -> Tree:
        """Return what stands on a node."""
        site = self.root / node / "site"
        found: Tree = {}
        for folder, folders, files in os.walk(site):
            folders[:] = [name for name in folders if name != ".asyncdeploy"]
            for name in files:
                path = Path(folder, name)
                found[str(path.relative_to(site))] = path.read_bytes()
        return found

    def is_begun(self, node: str) -> bool:
        """Whether a swap has begun there that its process did not end."""
        return (self.root / node / "site" / ".asyncdeploy" / "journal").exists()

    def wrong(self, node: str) -> str:
        """Return what is torn on a node, "" if one whole version stands there, or none yet."""
        found = self.found(node)
        if not found or any(found == tree(version) for version in range(1, self.version + 1)):
            return ""
        return f"neither the old tree nor the new one: {sorted(found)}"
