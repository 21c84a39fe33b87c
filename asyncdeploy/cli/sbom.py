"""What may be sent to a node, as a bill of materials (CycloneDX, JSON): `python -m asyncdeploy.cli.sbom`.

Every program and shell file that a node runs lies in this package as it is sent, so the list is that of the files
beside us. Two runs of one version print the same. What a project itself brings (its code, its wheels, its images) is in
none of it.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.resources.abc import Traversable
from typing import Any

import asyncdeploy
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.values.errors import ToolMissing

LICENCE = "MIT"
SENT = ("cli/demo_project", "envs", "node_side", "sources")
"""Folders that hold what is sent: of the demo everything, else the shell files, and of node_side the programs too."""


def sent_files() -> Iterator[tuple[str, bytes]]:
    """Yield each file of ours that may be sent to a node: where it lies below the package, and its content."""
    top = importlib.resources.files("asyncdeploy")
    for folder in SENT:
        yield from _below(top.joinpath(folder), folder)


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        name = f"{path}/{each.name}"
        if each.is_dir():
            yield from _below(each, name)
        elif name.endswith(".sh") or (path.startswith(("node_side", "cli/")) and not name.endswith(".pyc")):
            yield name, each.read_bytes()


def bill() -> dict[str, Any]:
    """Return the bill of materials."""
    ours = _component("library", "asyncdeploy", asyncdeploy.__version__, LICENCE)
    files = [
        {**_component("file", name, "", LICENCE), "hashes": _hashes(hashlib.sha256(content).hexdigest())}
        for name, content in sent_files()
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours},
        "components": [*files, *_uv()],
        "dependencies": [{"ref": ours["bom-ref"], "dependsOn": [each["bom-ref"] for each in files]}],
    }


def _uv() -> Iterator[dict[str, Any]]:
    """Yield the uv that UvEnv sends to nodes without one of their own, if it is installed beside us."""
    try:
        binary = find_uv_binary()
    except ToolMissing:
        return
    licence = (metadata.metadata("uv").get_all("License-Expression") or ["NOASSERTION"])[0]
    yield {
        **_component("application", "uv", binary.version, licence),
        "scope": "optional",
        "description": "sent to a node that has no uv, or not the one that a project wants; hash of the program",
        "hashes": _hashes(binary.sha256),
    }


def _component(kind: str, name: str, version: str, licence: str) -> dict[str, Any]:
    said = {"type": kind, "bom-ref": name, "name": name, "licenses": [{"expression": licence}]}
    if version:
        said |= {"version": version, "purl": f"pkg:pypi/{name}@{version}"}
    return said


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bill(), indent=1) + "\n")
