"""A wheelhouse: all that a locked project needs, as wheels for a node's platform, made once on this machine.

uv says what is locked, pip brings the wheels (it can for another platform), both by their own settings: indexes,
credentials and certificates are the user's. Each wheel is an asset of its own: after a change only what is new travels.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from asyncdeploy.envs.base import Asset
from asyncdeploy.envs.uv_wheel import beside_us
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import last_lines
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.workspace import Site

MAKE_S = 7200.0
"""torch and its CUDA wheels are 3 GB."""
KEPT = 8
"""Wheelhouses in our cache: one for each environment that somebody works on."""
NEWEST_GLIBC = 45
NEEDED = "requirements.txt"

_making = threading.Lock()
_LOCAL = re.compile(r"-e |\.{0,2}/|file:")


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
    """

    folder: Path
    flags: tuple[str, ...]
    files: tuple[str, ...]
    python: str
    arch: str
    libc: str

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


def wheel_assets(wanted: Wanted, site: Site) -> tuple[Asset, ...]:
    """Return the wheels and the requirements that name them, for a site; may block while they are fetched.

    Raises:
        ToolMissing: uv, pip or packaging is not installed beside us.
        TransferFailed: there is no lock, or something that it names cannot be had as a wheel for the node.
    """
    with _making:  # many nodes of a kind ask at the same time
        house = _house(wanted)
    target = f"{site.path.rstrip('/')}/.asyncdeploy/wheels"
    listed = json.loads((house / "listed.json").read_text())
    return tuple(Asset(name, house / name, sha256, f"{target}/{name}") for name, sha256 in listed.items())


def _house(wanted: Wanted) -> Path:
    """Return the folder of a wheelhouse, made if it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asyncdeploy" / "wheels"
    sources = _sources(wanted)
    made_from = [wanted.flags, wanted.files, wanted.python, wanted.platforms(), sources]
    house = cache / hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
    if not (house / "listed.json").is_file():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as place:
            new = Path(place) / "new"
            new.mkdir()
            _make(wanted, new)
            shutil.rmtree(house, ignore_errors=True)
            new.rename(house)
    os.utime(house)
    known = [path for path in cache.iterdir() if (path / "listed.json").is_file()]
    for old in sorted(known, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return house


def _sources(wanted: Wanted) -> list[list[str]]:
    """Return the files that say what is needed, with their contents' hashes."""
    paths = [wanted.folder / name for name in (*wanted.files, "pyproject.toml", "pylock.toml", "requirements.txt")]
    lock = None if wanted.files else find_lock(wanted.folder)
    paths += [lock] if lock else []
    return [[str(path), hashlib.sha256(path.read_bytes()).hexdigest()] for path in paths if path.is_file()]


def find_lock(folder: Path) -> Path | None:
    """Return the uv.lock of a project, or of the uv workspace around it."""
    return next((above / "uv.lock" for above in (folder, *folder.parents) if (above / "uv.lock").is_file()), None)


def _make(wanted: Wanted, house: Path) -> None:
    lines = _locked_lines(wanted)
    local = [line for line in lines if _LOCAL.match(line)]
    foreign = [line for line in lines if not _LOCAL.match(line)]
    options = [line for line in foreign if line.startswith("--")]  # of requirement files: their indexes
    pinned = _that_apply([line for line in foreign if line not in options], wanted)
    _download(wanted, house, [*options, *pinned], _indexes(wanted))
    if builds := _build_requirements(wanted, local):
        uv = [
            beside_us("uv"),
            "pip",
            "compile",
            "-q",
            "--no-header",
            "--no-annotate",
            "--python-version",
            wanted.python,
        ]
        libc = "musl" if wanted.libc.startswith("musl") else "gnu"
        words = [*uv, "--python-platform", f"{wanted.arch}-unknown-linux-{libc}", "-"]
        found = _run(words, wanted.folder, "what the project is built with", "\n".join(builds))
        _download(wanted, house, found.splitlines(), ())
    wheels = sorted(path.name for path in house.glob("*.whl"))
    # uv on the node installs these and nothing else, and what is not named here is removed from its folder.
    text = "".join(f"#: {name}\n" for name in wheels) + "\n".join([*local, *pinned]) + "\n"
    (house / NEEDED).write_text(text)
    sums = {name: hashlib.sha256((house / name).read_bytes()).hexdigest() for name in (*wheels, NEEDED)}
    (house / "listed.json").write_text(json.dumps(sums))


def _locked_lines(wanted: Wanted) -> list[str]:
    """Return what is locked, a requirement a line with its hashes."""
    uv, folder = beside_us("uv"), wanted.folder
    plain = ["--no-header", "--no-annotate"]
    if not wanted.files and (folder / "pyproject.toml").is_file():
        if find_lock(folder) is None:
            raise TransferFailed("", f"UvEnv(offline=True): there is no uv.lock in {folder}", "run `uv lock` there")
        text = _run([uv, "export", "-q", "--frozen", *plain, *wanted.flags], folder, "what the lock says")
    elif not wanted.files and (folder / "pylock.toml").is_file():
        return [line for package in _tables(folder / "pylock.toml") for line in _pylock_line(package)]
    else:
        files = wanted.files or ("requirements.txt",)
        words = [
            uv,
            "pip",
            "compile",
            "-q",
            *plain,
            "--generate-hashes",
            "--emit-index-url",
            "--python-version",
            wanted.python,
        ]
        libc = "musl" if wanted.libc.startswith("musl") else "gnu"
        words += ["--python-platform", f"{wanted.arch}-unknown-linux-{libc}", *files]
        text = _run(words, folder, "what the requirements come to")
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


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


def _that_apply(lines: Iterable[str], wanted: Wanted) -> list[str]:
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


def _download(wanted: Wanted, house: Path, lines: Sequence[str], indexes: Sequence[str]) -> None:
    if not lines:
        return
    if importlib.util.find_spec("pip") is None:
        raise ToolMissing("", "pip is not installed beside us", "pip install 'asyncdeploy[uv]'", tool="pip")
    words = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input", "--no-deps"]
    words += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", wanted.python]
    words += [word for abi in (f"cp{wanted.python.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    words += [word for platform in wanted.platforms() for word in ("--platform", platform)]
    words += [word for index in indexes for word in ("--extra-index-url", index)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        kind = f"Python {wanted.python} on {wanted.arch}, {wanted.libc}"
        _run([*words, "--dest", str(house), "-r", file.name], wanted.folder, f"the wheels for {kind}")


def _run(words: Sequence[str], folder: Path, what: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(words, cwd=folder, input=stdin.encode(), capture_output=True, check=False, timeout=MAKE_S)
    except subprocess.TimeoutExpired:
        raise TransferFailed("", f"a wheelhouse: {what}: not within {MAKE_S:.0f} s", path=str(folder)) from None
    if done.returncode:
        hint = "each package must have a wheel for the node: build those that have none, or give the node a network"
        evidence = last_lines(done.stderr or done.stdout)
        raise TransferFailed("", f"a wheelhouse could not be made: {what}", hint, evidence, path=str(folder))
    return done.stdout.decode("utf-8", "replace")


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
