"""The uv binary on this machine: the wheel that is installed beside us holds one, which can be sent to a node."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
import struct
import tempfile
import threading
from pathlib import Path

import attrs

from asyncdeploy.envs.base import Asset
from asyncdeploy.envs.this_machine import beside_us, cache_folder, file_sha256
from asyncdeploy.envs.uv_project import misfit
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.tasks.programs import run_blocking
from asyncdeploy.values.errors import ToolMissing
from asyncdeploy.values.words import last_lines

OLDEST_GLIBC = (2, 17)
"""What the wheel's binary is linked against (manylinux2014)."""

FETCH_S = 600.0
"""20 MB over a poor connection."""

_fetching = threading.Lock()
_MACHINES = {62: "x86_64", 183: "aarch64"}
_PT_INTERP = 3
_MAX_SEGMENTS = 64
_HINT = "install uv on the node, or `pip install 'asyncdeploy[uv]'` here on Linux of the node's kind"


@attrs.frozen
class UvBinary:
    """A uv executable on this machine.

    Attributes:
        path: where it lies.
        version: of uv.
        sha256: of its content, hex.
        machine: what it runs on, as ``uname -m`` says it.
        loader: the dynamic loader that it wants, "" if it is static.
    """

    path: Path
    version: str
    sha256: str
    machine: str
    loader: str

    def misfit(self, facts: NodeFacts) -> str:
        """Return why it cannot run on a node, "" if it can."""
        if facts.system != "Linux" or facts.arch != self.machine:
            there = f"{facts.system} on {facts.arch or 'an unknown machine'}"
            return f"it is for Linux on {self.machine}, the node is {there}"
        libc, _, version = facts.libc.partition(" ")
        if "musl" in self.loader and libc != "musl":
            return f"it is linked against musl, the node has {facts.libc or 'an unknown C library'}"
        if "ld-linux" in self.loader:
            if libc != "glibc":
                return f"it is linked against glibc, the node has {facts.libc or 'an unknown C library'}"
            if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_GLIBC:
                return f"it needs glibc {'.'.join(map(str, OLDEST_GLIBC))}, the node has {version}"
        return ""


def uv_asset(facts: NodeFacts, required: str = "") -> Asset:
    """Return a uv binary that runs on the node: the one beside us, or one that is fetched once; may block.

    Args:
        facts: of the node.
        required: what the project says of uv's version, as in ">=0.8,<0.9".

    Raises:
        ToolMissing: none is installed here, or none for such a node can be had.
    """
    there = misfit(facts.uv_version, required) if facts.tool("uv") else ""
    lacks = f"on the node {there}" if there else "the node has no uv"
    try:
        binary = find_uv_binary()
        why, wrong = binary.misfit(facts), misfit(binary.version, required)
    except ToolMissing as error:
        why, wrong = error.message, ""
    if why or wrong:
        if facts.system != "Linux" or facts.arch not in _MACHINES.values():
            what = f"{lacks}, and the one beside us does not fit: {why or wrong}"
            raise ToolMissing("", what, _HINT, tool="uv")
        with _fetching:  # many nodes of a kind ask at the same time
            binary = fetch_uv(facts.arch, required if wrong else "", lacks)
    folder = f"{facts.home.rstrip('/')}/.asyncdeploy/tools/uv-{binary.version}-{binary.sha256[:8]}"
    return Asset(f"uv {binary.version}", binary.path, binary.sha256, f"{folder}/uv", executable=True)


@functools.cache
def fetch_uv(machine: str, required: str = "", lacks: str = "the node has no uv") -> UvBinary:
    """Return uv's static Linux binary for a machine: fetched once, kept in our cache.

    The index, its credentials and certificates are the user's own, as uv knows them; what comes is what the wheel's
    record says.

    Args:
        machine: "x86_64" or "aarch64".
        required: which versions will do; "" is the one beside us.
        lacks: what the node has instead, for errors.

    Raises:
        ToolMissing: it cannot be had.
    """
    from importlib import metadata  # 8 ms, for those alone who send uv

    try:
        version = metadata.version("uv")
    except metadata.PackageNotFoundError:
        version = ""
    if not version:
        what = f"{lacks}, and none is installed beside us that could fetch one for it"
        raise ToolMissing("", what, _HINT, tool="uv")
    wanted = required.replace(" ", "") or f"=={version}"
    wanted = wanted if wanted[0] in "=<>~!" else f"=={wanted}"
    cache = cache_folder("uv")
    kept = cache / f"{wanted.removeprefix('==').replace('/', '_')}-{machine}"
    if not kept.is_dir():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as place:
            _fetch(wanted, machine, Path(place) / "new", lacks)
            with contextlib.suppress(OSError):  # somebody else was as quick
                (Path(place) / "new").rename(kept)
    return _recorded(kept)


def _fetch(wanted: str, machine: str, target: Path, lacks: str) -> None:
    words = [beside_us("uv"), "pip", "install", "-q", "--target", str(target), "--no-deps", "--only-binary", ":all:"]
    words += ["--link-mode", "copy", "--python-platform", f"{machine}-unknown-linux-musl", f"uv{wanted}"]
    what = f"{lacks}, and uv{wanted} for Linux on {machine} could not be fetched"
    try:
        done = run_blocking(words, within_s=FETCH_S)
    except TimeoutError:
        raise ToolMissing("", f"{what} within {FETCH_S:.0f} s", _HINT, tool="uv") from None
    if done.status:
        raise ToolMissing("", what, _HINT, last_lines(done.stderr), tool="uv")


def _recorded(kept: Path) -> UvBinary:
    """Return a fetched binary, if it is what its wheel's record says."""
    from importlib import metadata  # 8 ms, for those alone who send uv

    path = kept / "bin" / "uv"
    found = metadata.Distribution.at(next(kept.glob("uv-*.dist-info"), kept))
    known = next((file.hash for file in found.files or () if file.name == "uv" and file.hash is not None), None)
    if known is None or not path.is_file() or file_sha256(path) != _from_record(known.value):
        raise ToolMissing("", f"{path} is not what its wheel says", f"remove {kept} and try again", tool="uv")
    return UvBinary(path, found.version, file_sha256(path), *read_elf(path))


@functools.cache
def find_uv_binary() -> UvBinary:
    """Return the binary of the ``uv`` wheel that is installed beside us; looked for and hashed once a process.

    Raises:
        ToolMissing: there is none, or it is no Linux program.
    """
    from importlib import metadata  # 8 ms, for those alone who send uv

    try:
        wheel = metadata.distribution("uv")
    except metadata.PackageNotFoundError:
        what = "the node has no uv, and none is installed beside us to be sent"
        raise ToolMissing("", what, _HINT, tool="uv") from None
    for file in wheel.files or ():
        path = Path(str(wheel.locate_file(file))).resolve()
        if file.name == "uv" and path.is_file():
            machine, loader = read_elf(path)
            known = file.hash
            recorded = known is not None and known.mode == "sha256"
            # The wheel's own record is what its publisher signed for; the node compares what arrives with it.
            digest = _from_record(known.value) if known is not None and recorded else file_sha256(path)
            return UvBinary(path, wheel.version, digest, machine, loader)
    raise ToolMissing("", "the node has no uv, and the uv package beside us holds no binary", _HINT, tool="uv")


def read_elf(path: Path) -> tuple[str, str]:
    """Return a 64-bit Linux program's machine and its dynamic loader ("" if it is static).

    Raises:
        ToolMissing: it is no such program.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) == 64 and head[:6] == b"\x7fELF\x02\x01":
            (number,) = struct.unpack_from("<H", head, 18)
            (table,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            if number in _MACHINES and size == 56 and count <= _MAX_SEGMENTS:
                file.seek(table)
                segments = file.read(size * count)
                for start in range(0, len(segments) - size + 1, size):
                    (kind,) = struct.unpack_from("<I", segments, start)
                    offset, _, _, length = struct.unpack_from("<4Q", segments, start + 8)
                    if kind == _PT_INTERP and length <= 4096:
                        file.seek(offset)
                        return _MACHINES[number], file.read(length).rstrip(b"\0").decode("utf-8", "replace")
                return _MACHINES[number], ""
    what = f"the node has no uv, and the one beside us, {path}, is not a 64-bit Linux program"
    raise ToolMissing("", what, _HINT, tool="uv")


def _from_record(value: str) -> str:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
