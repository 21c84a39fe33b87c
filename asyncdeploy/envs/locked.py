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
from asyncdeploy.values.regex import regex

NOT_MADE = "a wheelhouse could not be made: "

_LOCAL = regex(r"-e |\.{0,2}/|file:")


@attrs.frozen
class Locked:
    """What the nodes need, a requirement a line.

    Attributes:
        local: packages that lie in the project: "./libs/a", "-e .".
        pinned: all others, each with its hashes; those whose markers do not hold on the nodes are left out.
        places: (requirement, where its wheels lie) of those that are locked without a hash.
        options: of requirement files, which say where to look ("--index-url ...").
        indexes: those that the lock names beside the default one; what comes from them is held to its hash.
        built_with: what the local packages are built with on the node.
    """

    local: tuple[str, ...]
    pinned: tuple[str, ...]
    places: tuple[tuple[str, tuple[str, ...]], ...]
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
        said = run_here([*compile_words(wanted), "-"], wanted.making, what, stdin="\n".join(built_with))
        built_with = said.splitlines()
    places = _places(wanted, pinned)
    return Locked(tuple(local), tuple(pinned), places, tuple(options), lock_indexes(wanted), tuple(built_with))


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
        text = run_here(words, wanted.making, f"{NOT_MADE}what the lock says")
    elif not wanted.files and (folder / "pylock.toml").is_file():
        return [line for package in _tables(folder / "pylock.toml") for line in _pylock_line(package)]
    else:
        words = [*compile_words(wanted), "--generate-hashes", "--emit-index-url", "--emit-find-links"]
        words += wanted.files or ("requirements.txt",)
        text = run_here(words, wanted.making, f"{NOT_MADE}what the requirements come to")
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


def compile_words(wanted: Wanted) -> list[str]:
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


def _packages(wanted: Wanted) -> tuple[Path, list[dict[str, object]]]:
    """Return what the project's lock says of each package, and the lock's folder."""
    lock, pylock = find_lock(wanted.folder), wanted.folder / "pylock.toml"
    if wanted.files or not (lock or pylock.is_file()):
        return wanted.folder, []
    path = lock or pylock
    return path.parent, _tables(path)


def lock_indexes(wanted: Wanted) -> tuple[str, ...]:
    """Return the indexes that the lock names beside the default one; what comes from them is held to its hash."""
    sources = [table.get("source", {"registry": table.get("index")}) for table in _packages(wanted)[1]]
    found = {str(source["registry"]) for source in sources if isinstance(source, dict) and source.get("registry")}
    return tuple(sorted(each for each in found - {_pips_default()} if "://" in each))


def _places(wanted: Wanted, pinned: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return where the wheels of what is locked without a hash lie, as the lock says: nothing else may stand for them.

    A page or folder of links (find-links, format = "flat"), and some indexes, name no hashes.
    """
    folder, tables = _packages(wanted)
    wheels = {(_plain(table.get("name")), table.get("version")): _links(folder, table) for table in tables}
    bare = [line for line in pinned if " --hash=" not in line and "@" not in line]
    found = [(line, wheels.get((_plain(line.partition("==")[0]), line.partition("==")[2]), ())) for line in bare]
    return tuple((line, links) for line, links in found if links)


def _links(folder: Path, table: dict[str, object]) -> tuple[str, ...]:
    source, wheels = table.get("source"), table.get("wheels")
    registry = source.get("registry", "") if isinstance(source, dict) else ""
    found = [wheel for wheel in wheels if isinstance(wheel, dict)] if isinstance(wheels, list) else []
    return tuple(str(wheel.get("url") or folder / registry / str(wheel.get("path"))) for wheel in found)


def _plain(name: object) -> str:
    return re.sub(r"[-_.]+", "-", str(name).partition("[")[0]).lower()


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
