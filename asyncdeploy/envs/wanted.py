"""What a wheelhouse is made for: a project, what is chosen of it, and the nodes that it must fit."""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs

from asyncdeploy.envs.this_machine import Making
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Secrets, secret_values
from asyncdeploy.values.errors import TransferFailed

NEWEST_GLIBC = 45
HINT = "each package must have a wheel for the node: build those that have none, or give the node a network"


@attrs.frozen
class Wanted:
    """What a wheelhouse is for.

    Attributes:
        folder: the project, on this machine.
        flags: for ``uv export``: extras, groups, packages.
        files: requirement files of the project instead.
        python: the node's version, "3.12".
        arch: of the node, as ``uname -m`` says it.
        libc: of the node: "glibc 2.36".
        secrets: variables for the programs that make it here; no part of what it is.
    """

    folder: Path
    flags: tuple[str, ...]
    files: tuple[str, ...]
    python: str
    arch: str
    libc: str
    secrets: Secrets = ()

    @property
    def making(self) -> Making:
        """How its parts are made here: the programs know the secrets too."""
        return Making(self.folder, HINT, {**os.environ, **secret_values(self.secrets)})

    def platforms(self) -> tuple[str, ...]:
        """Return the platform tags whose wheels the node can use, the best first."""
        libc, _, version = self.libc.partition(" ")
        minor = int([*re.findall(r"\d+", version), "0", "0"][1])
        if libc == "musl":
            return tuple(f"musllinux_1_{number}_{self.arch}" for number in range(minor, 0, -1))
        newer = tuple(f"manylinux_2_{number}_{self.arch}" for number in range(min(minor, NEWEST_GLIBC), 4, -1))
        older = tuple(f"{name}_{self.arch}" for name in ("manylinux2014", "manylinux2010", "manylinux1"))
        return (*newer, *older, f"linux_{self.arch}")

    def environment(self) -> dict[str, str]:
        """Return what markers see on the node."""
        return {
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.arch,
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
        }


def node_python(folder: Path, asked: str | None, facts: NodeFacts) -> str:
    """Return the version ("3.12") that an environment on the node will have: asked for, pinned, or the node's own.

    Raises:
        TransferFailed: nobody says.
    """
    pinned = folder / ".python-version"
    texts = [asked or "", pinned.read_text().strip() if pinned.is_file() else "", facts.python_version]
    for text in texts:
        if found := re.match(r"(\d+\.\d+)(\.\d+)*\Z", text):
            return found.group(1)
    raise TransferFailed("", "a wheelhouse needs to know the node's Python", 'UvEnv(python="3.12")', path=str(folder))
