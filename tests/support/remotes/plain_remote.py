"""Nodes without python3 for ring 2: a folder, a shell as its /bin/sh, perhaps nothing but busybox."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.remotes.shell_remote import ShellChannel, ShellRemote
from tests.support.tools import find, need

SHELLS = ("dash", "bash", "ash", "busybox")
"""ash is busybox's shell beside GNU tools, busybox a node that has nothing else."""


class PlainRemote(ShellRemote):
    """A node without python3 whose /bin/sh is one of SHELLS."""

    def __init__(self, home: Path, shell: str = "dash", name: str = "here") -> None:
        own = home.parent / f"{home.name}-{shell}"
        own.mkdir(parents=True, exist_ok=True)
        _fill(own, shell)
        super().__init__(home, python=False, shell=(str(own / "sh"), "-c"), name=name)
        self.sh = own / "sh"
        self.env["PATH"] = str(own) if shell == "busybox" else f"{own}:{os.environ['PATH']}"

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        return await super().open(line.replace("/bin/sh", str(self.sh)).replace("/usr/bin/python3", ""), kind=kind)


def _fill(folder: Path, shell: str) -> None:
    program = "busybox" if shell == "ash" else shell
    need(program)
    path = str(find(program))
    names = ["sh"]
    if shell == "busybox":
        names = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(path)
