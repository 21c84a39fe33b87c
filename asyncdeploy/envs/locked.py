"""What a project has locked, as requirements of the nodes: asked of uv, or read from pylock.toml; and from where."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from asyncdeploy.envs.this_machine import beside_us, run_here
from asyncdeploy.envs.wanted import Wanted
from asyncdeploy.values.errors import ToolMissing, TransferFailed

NOT_MADE = "a wheelhouse could not be made: "
HINT = "each package must have a wheel for the node: build those that have none, or give the node a network"

_LOCAL = re.compile(r"-e |\.{0,2}/|file:")


@attrs.frozen
class Locked:
    """What the nodes need, a requirement a line.

    Attributes:
        local: packages that lie in the project: "./libs/a", "-e .".
        pinned: all others, each with its hashes; those whose markers do not hold on the nodes are left out.
        options: of requirement files, which say where to look ("--index-url ...").
        indexes: those that the lock names beside the default one; what comes from them is held to its hash.
        built_with: what the local packages are built with on the node.
    """

    local: tuple[str, ...]
    pinned: tuple[str, ...]
    options: tuple[str, ...]
    indexes: tuple[str, ...]
    built_with: tuple[str, ...]


def read_locked(wanted: Wanted) -> Locked:
    """Return what a project has locked; asks uv, and may block while it resolves requirement files.

    Raises:
        ToolMissing: uv or packaging is not installed beside us.
        TransferFailed: there is no lock, or uv fails.
    """
    lines = _lines(wanted)
    local = [line for line in lines if _LOCAL.match(line)]
    foreign = [line for line in lines if not _LOCAL.match(line)]
    options = [line for line in foreign if line.startswith("--")]
    pinned = _that_apply(wanted, [line for line in foreign if line not in options])
    built_with = _build_requirements(wanted, local)
    if built_with:
        what = f"{NOT_MADE}what the project is built with"
        said = run_here([*_compile(wanted), "-"], wanted.folder, what, hint=HINT, stdin="\n".join(built_with))
        built_with = said.splitlines()
    return Locked(tuple(local), tuple(pinned), tuple(options), _indexes(wanted), tuple(built_with))


def find_lock(folder: Path) -> Path | None:
    """Return the uv.lock of a project, or of the uv workspace around it."""
    return next((above / "uv.lock" for above in (folder, *folder.parents) if (above / "uv.lock").is_file()), None)


def _lines(wanted: Wanted) -> list[str]:
    """Return what is locked, as uv writes it."""
    folder = wanted.folder
    if not wanted.files and (folder / "pyproject.toml").is_file():
        if find_lock(folder) is None:
            raise TransferFailed("", f"UvEnv(offline=True): there is no uv.lock in {folder}", "run `uv lock` there")
        words = [beside_us("uv"), "export", "-q", "--frozen", "--no-header", "--no-annotate", *wanted.flags]
        text = run_here(words, folder, f"{NOT_MADE}what the lock says", hint=HINT)
    elif not wanted.files and (folder / "pylock.toml").is_file():
        return [line for package in _tables(folder / "pylock.toml") for line in _pylock_line(package)]
    else:
        words = [*_compile(wanted), "--generate-hashes", "--emit-index-url", *(wanted.files or ("requirements.txt",))]
        text = run_here(words, folder, f"{NOT_MADE}what the requirements come to", hint=HINT)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


def _compile(wanted: Wanted) -> list[str]:
    """Return the words by which uv resolves requirements for the nodes."""
    libc = "musl" if wanted.libc.startswith("musl") else "gnu"
    words = [beside_us("uv"), "pip", "compile", "-q", "--no-header", "--no-annotate"]
    return [*words, "--python-version", wanted.python, "--python-platform", f"{wanted.arch}-unknown-linux-{libc}"]


def _tables(path: Path) -> list[dict[str, object]]:
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TransferFailed("", f"{path} on this machine: {error}", path=str(path)) from error
    tables = found.get("packages", found.get("package", []))
    return [table for table in tables if isinstance(table, dict)]


def _pylock_line(package: dict[str, object]) -> list[str]:
    directory, marker = package.get("directory"), package.get("marker")
    if isinstance(directory, dict):
        return [("-e " if directory.get("editable") else "") + f"./{directory.get('path')}"]
    wheels = package.get("wheels")
    hashes = [wheel.get("hashes", {}).get("sha256") for wheel in wheels] if isinstance(wheels, list) else []
    line = f"{package.get('name')}=={package.get('version')}" + (f" ; {marker}" if marker else "")
    return [line + "".join(f" --hash=sha256:{value}" for value in hashes if value)]


def _that_apply(wanted: Wanted, lines: Iterable[str]) -> list[str]:
    """Return the lines whose markers hold on the node, without the markers."""
    if importlib.util.find_spec("packaging") is None:
        raise ToolMissing("", "packaging is not installed beside us", "pip install 'asyncdeploy[uv]'", tool="packaging")
    from packaging.markers import Marker  # of the extra "uv": asked for here only

    found = []
    for line in lines:
        requirement, *hashes = line.split(" --hash=")
        name, _, marker = requirement.partition(" ;")
        if not marker or Marker(marker.strip()).evaluate(wanted.environment()):
            found.append(" --hash=".join([name.strip(), *(each.strip() for each in hashes)]))
    return found


def _indexes(wanted: Wanted) -> tuple[str, ...]:
    """Return the indexes that the lock names beside the default one; what comes from them is held to its hash."""
    lock = None if wanted.files else find_lock(wanted.folder)
    pylock = wanted.folder / "pylock.toml"
    tables = _tables(lock) if lock else _tables(pylock) if pylock.is_file() and not wanted.files else []
    sources = [table.get("source", {"registry": table.get("index")}) for table in tables]
    found = {str(source["registry"]) for source in sources if isinstance(source, dict) and source.get("registry")}
    return tuple(sorted(found - {_pips_default()}))


def _pips_default() -> str:
    """Return the index that pip asks by itself, unless the user's settings name a mirror for it: it needs no naming."""
    try:
        return str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError):
        return ""


def _build_requirements(wanted: Wanted, local: Sequence[str]) -> list[str]:
    """Return what the local packages are built with on the node."""
    found: set[str] = set()
    for line in local:
        folder = wanted.folder / line.removeprefix("-e ").split(" ;")[0].strip().removeprefix("file://")
        if folder.is_dir():
            path = folder / "pyproject.toml"
            text = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
            requires = text.get("build-system", {}).get("requires", ["setuptools>=40.8", "wheel"])
            # hatchling asks for it only when it is called.
            found |= {*requires, *(("editables",) if any("hatchling" in each for each in requires) else ())}
    return sorted(found)
