"""A flake's shell or package, evaluated and built on this machine once, as files for nodes that reach no cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import threading
from pathlib import Path

import attrs

from asyncdeploy.envs.base import Asset
from asyncdeploy.envs.this_machine import Making, beside_us, cache_folder, file_sha256, keep_newest, run_here
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.errors import ToolMissing

NOT_MADE = "a closure could not be made on this machine"
KEPT = 4
"""Closures in our cache: each is gigabytes, and roots what it holds in the store of this machine."""

PLACE = "@asyncdeploy-workdir@"
"""Stands for the project's folder in what is sent; nix_make.sh puts the node's in."""

_making = threading.Lock()


@attrs.frozen
class Closure:
    """What is to be sent.

    Attributes:
        folder: the project, on this machine.
        script: nix_make.sh.
        mode: "develop" or "build".
        ref: the flake, "" for the one in the folder.
        attribute: of it, with its "#", or "".
    """

    folder: Path
    script: str
    mode: str
    ref: str
    attribute: str


def closure_assets(closure: Closure, state: str, facts: NodeFacts) -> tuple[Asset, ...]:
    """Return the closure's files and where they go on a node; may block while it is made.

    Args:
        closure: what is to be sent.
        state: the environment's own folder on the node.
        facts: of the node.

    Raises:
        ToolMissing: there is no nix on this machine, or the node is a machine of another kind.
        TransferFailed: the flake cannot be evaluated or built here.
    """
    here = (platform.system(), platform.machine())
    if here != (facts.system, facts.arch):
        what = f"a closure for {facts.system} on {facts.arch} cannot be made on {here[0]} on {here[1]}"
        raise ToolMissing("", what, "leave copy_closure out: the node's own nix can make it", tool="nix")
    with _making:  # many nodes ask at the same time
        made = _made(closure)
    listed = json.loads((made / "listed.json").read_text())
    return tuple(Asset(f"nix {name}", made / name, sha256, f"{state}/{name}") for name, sha256 in listed.items())


def _made(closure: Closure) -> Path:
    nix = beside_us("nix", "install nix on this machine too, or leave copy_closure out")
    cache = cache_folder("nix")
    found = _flake_files(closure.folder)
    sources = [[str(path), file_sha256(path)] for path in found]
    locked = _locked(closure, nix) if closure.ref else ""
    # A store elsewhere is another one: its paths say so.
    made_from = [closure.mode, closure.ref, locked, closure.attribute, os.environ.get("NIX_STORE_DIR", ""), sources]
    made = cache / hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
    if not (made / "listed.json").is_file():
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700, parents=True)
        _make(closure, nix, made)
    os.utime(made)
    keep_newest(cache, KEPT)
    return made


def _locked(closure: Closure, nix: str) -> str:
    """Return what a flake elsewhere is now: a branch or a folder does not stay what it was."""
    features = ["--extra-experimental-features", "nix-command", "--extra-experimental-features", "flakes"]
    said = run_here([nix, *features, "flake", "metadata", "--json", closure.ref], Making(closure.folder), NOT_MADE)
    return json.dumps(json.loads(said).get("locked"), sort_keys=True)


def _flake_files(folder: Path) -> list[Path]:
    """Return what a flake says of itself; large folders that are no part of it are not looked into."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".venv", ".asyncdeploy", "node_modules")]
        found += [Path(place) / name for name in names if name.endswith(".nix") or name == "flake.lock"]
    return sorted(path for path in found if path.is_file())


def _make(closure: Closure, nix: str, made: Path) -> None:
    state = made / "state"
    words = [closure.mode, nix, closure.ref, closure.attribute, str(state), "here"]
    run_here(["sh", "-c", closure.script, "asyncdeploy-nix", *words], Making(closure.folder), NOT_MADE)
    links = [path for path in sorted(state.glob("result*")) if not path.name.endswith("-link")]
    (made / "links").write_text("".join(f"{path.name} {path.resolve()}\n" for path in links))
    # A shell's own outputs lie in the folder where it was made, which is another one on the node.
    text = (state / "env.sh").read_text() if closure.mode == "develop" else ""
    (made / "env.sent").write_text(text.replace(str(closure.folder), PLACE))
    store = str(Path(nix).with_name("nix-store"))
    paths = run_here([store, "-qR", *(str(path.resolve()) for path in links)], Making(made), NOT_MADE).split()
    with (made / "closure").open("wb") as file:
        run_here([store, "--export", *paths], Making(made), NOT_MADE, stdout=file)
    sums = {name: file_sha256(made / name) for name in ("closure", "links", "env.sent")}
    part = Path(tempfile.mkdtemp(dir=made)) / "listed.json"
    part.write_text(json.dumps(sums))
    part.rename(made / "listed.json")
