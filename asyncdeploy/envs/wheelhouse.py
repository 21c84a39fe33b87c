"""A wheelhouse: all that a locked project needs, as wheels for a node's platform, made once on this machine.

uv says what is locked, pip brings the wheels (it can for another platform), both by their own settings: indexes,
credentials and certificates are the user's. Each wheel is an asset of its own: after a change only what is new travels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from asyncdeploy.envs.base import Asset
from asyncdeploy.envs.index_urls import known_indexes, with_user
from asyncdeploy.envs.locked import NOT_MADE, compile_words, find_lock, lock_indexes, read_locked
from asyncdeploy.envs.this_machine import cache_folder, file_sha256, keep_newest, run_here
from asyncdeploy.envs.wanted import Wanted
from asyncdeploy.node_side.envs.made_from import find
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.workspace import Site

KEPT = 8
"""Wheelhouses in our cache: one for each environment that somebody works on."""
NEEDED = "requirements.txt"

_making = threading.Lock()


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
    cache = cache_folder("wheels")
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
    keep_newest(cache, KEPT)
    return house


def _sources(wanted: Wanted) -> list[tuple[str, str]]:
    """Return the files that say what is needed, with their contents' hashes: those that uv would look at."""
    lock = None if wanted.files else find_lock(wanted.folder)
    top = lock.parent if lock else wanted.folder
    # The code of a package that is built on the node names no other wheels: some word stands for it.
    found = find(str(top), str(wanted.folder), wanted.files, "code")
    locks = {str(lock): file_sha256(lock)} if lock else {}
    return sorted({**found.files, **locks}.items())


def _make(wanted: Wanted, house: Path) -> None:
    locked, environ = read_locked(wanted), wanted.making.env or {}
    known = known_indexes(wanted.folder, environ)
    indexes = [f"--extra-index-url {shlex.quote(with_user(each, known, environ))}" for each in locked.indexes]
    elsewhere = {line for line, _ in locked.places}
    pinned = [line for line in locked.pinned if line not in elsewhere]
    # pip wants a hash for all of them, or for none.
    for hashed in (True, False):
        lines = [line for line in pinned if (" --hash=" in line) == hashed]
        _download(wanted, house, lines, [*locked.options, *indexes])
    for line, links in locked.places:
        options = [f"--find-links {shlex.quote(with_user(link, known, environ))}" for link in links]
        _download(wanted, house, [line], ["--no-index", *options])
    _download(wanted, house, locked.built_with, [])
    wheels = sorted(path.name for path in house.glob("*.whl"))
    # uv on the node installs these and nothing else, and what is not named here is removed from its folder.
    text = "".join(f"#: {name}\n" for name in wheels) + "\n".join([*locked.local, *locked.pinned]) + "\n"
    (house / NEEDED).write_text(text)
    _list(house, [*wheels, NEEDED])


def _list(house: Path, names: Iterable[str]) -> None:
    """Note what is there with its hashes: a house with this note is whole."""
    sums = {name: file_sha256(house / name) for name in names}
    (house / "listed.json").write_text(json.dumps(sums))


def _download(wanted: Wanted, house: Path, lines: Sequence[str], options: Sequence[str]) -> None:
    if not lines:
        return
    if importlib.util.find_spec("pip") is None:
        raise ToolMissing("", "pip is not installed beside us", "pip install 'asyncdeploy[uv]'", tool="pip")
    words = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ]
    words += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", wanted.python]
    words += [word for abi in (f"cp{wanted.python.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    words += [word for platform in wanted.platforms() for word in ("--platform", platform)]
    # A file that is ours alone: an index's credentials may stand in its options.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join([*options, *lines]) + "\n")
        file.flush()
        what = f"{NOT_MADE}the wheels for Python {wanted.python} on {wanted.arch}, {wanted.libc}"
        words += ["--dest", str(house), "-r", file.name]
        try:
            run_here(words, wanted.making, what)
        except TransferFailed as error:
            raise _by_uv(wanted, lines, error) from None


def _by_uv(wanted: Wanted, lines: Sequence[str], error: TransferFailed) -> TransferFailed:
    """Return the error with what uv says of it, if that is a known cause: pip is silent of an index that refuses it."""
    asked = "\n".join(line.partition(" --hash=")[0] for line in lines)
    indexes = [word for index in lock_indexes(wanted) for word in ("--index", index)]
    words = [*compile_words(wanted), "--no-deps", *indexes, "-"]
    try:
        run_here(words, attrs.evolve(wanted.making, hint=""), error.message, stdin=asked)
    except TransferFailed as said:
        return said if said.hint else error
    return error
