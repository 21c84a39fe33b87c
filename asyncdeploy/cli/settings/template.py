"""asyncdeploy.toml as ``init`` writes it: what was found, filled in, and all else as comments."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncdeploy as ad
from asyncdeploy.cli.settings.file import NAME
from asyncdeploy.cli.settings.options import Reach
from asyncdeploy.cli.settings.usage import UsageError

SCRIPTS = ("train.py", "main.py", "src/train.py", "scripts/train.py")
"""Where a project's program mostly is."""
ENV_FILES = ("pyproject.toml", "uv.lock", "pylock.toml", "requirements.txt")


def write_template(
    folder: Path, nodes: Sequence[str], facts: Mapping[ad.Node, ad.NodeFacts] | None, reach: Reach, *, force: bool
) -> Path:
    """Write the file and return its path.

    Args:
        folder: the project.
        nodes: as they were written.
        facts: what those that were asked are; None if none was.
        reach: the flags; what they say is written down.
        force: write over one that is there.

    Raises:
        UsageError: there is one already.
    """
    path = folder / NAME
    text = _text(folder, nodes, facts, reach)
    tomllib.loads(text)  # what a name of a person's may have broken
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; --force writes over it") from None
    return path


def _text(folder: Path, nodes: Sequence[str], facts: Mapping[ad.Node, ad.NodeFacts] | None, reach: Reach) -> str:
    parts = [_head(nodes, facts, reach), _workspace(folder), _env(folder), _launch(folder), _COLLECT]
    return "\n".join(parts)


def _head(nodes: Sequence[str], facts: Mapping[ad.Node, ad.NodeFacts] | None, reach: Reach) -> str:
    lines = ["# Settings of asyncdeploy; a flag wins over a variable, a variable over this file. Paths begin here.", ""]
    lines += [f"# {node.name}: {_in_words(each)}" for node, each in (facts or {}).items()]
    if nodes:
        lines.append(f"nodes = {_list(nodes)}")
    elif reach.hostfile and reach.hostfile != "-":
        lines.append(f"hostfile = {json.dumps(reach.hostfile)}")
    else:
        lines.append('# nodes = ["root@gpu[01-08]:22"]    # in node rank order; also pasted `ssh ...` lines')
    lines.append('# hostfile = "hosts"                 # "host slots=8" a line' if not reach.hostfile else "")
    lines.append(_said("key", reach.key, "~/.ssh/id_ed25519", "for nodes that name none"))
    lines.append(_said("jump", reach.jump, "user@gate", "as for ssh -J"))
    lines.append("accept_new = true" if reach.accept_new else _ACCEPT)
    lines += ["", "[groups]", '# spare = ["root@gpu[09-10]"]         # meant by @spare', ""]
    return "\n".join(lines)


_ACCEPT = "# accept_new = true                  # trust a node that was never seen; a changed key never"


def _said(key: str, value: str | None, example: str, why: str) -> str:
    return f"{key} = {json.dumps(value)}" if value else f"{f'# {key} = {json.dumps(example)}':<36} # {why}"


def _in_words(facts: ad.NodeFacts) -> str:
    kinds = [gpu.name for gpu in facts.gpus]
    gpus = " + ".join(f"{kinds.count(kind)}x{kind}" for kind in dict.fromkeys(kinds)) or "no GPU"
    return f"{gpus}, {facts.cpus} CPUs, {facts.memory_bytes / 2**30:.0f} GiB, uv {facts.uv_version or '-'}"


def _workspace(folder: Path) -> str:
    secret = "\n# .env is ignored by git mostly: include sends it" if (folder / ".env").exists() else ""
    name = folder.name if folder.name.isascii() and folder.name.isprintable() else "project"
    lines = [
        f"[workspace]{secret}",
        'path = "."                           # what git lists is sent',
        f"# remote_path = {json.dumps(f'~/{name}')}",
        '# include = [".env"]                 # sent although git ignores it',
        '# exclude = ["*.ckpt"]               # never sent',
    ]
    return "\n".join([*lines, ""])


def _env(folder: Path) -> str:
    kind, why = "uv", "no pyproject.toml or requirements.txt was found: uv makes an empty one"
    if found := [name for name in ENV_FILES if (folder / name).is_file()]:
        why = f"from {', '.join(found)}"
    elif (folder / "flake.nix").is_file():
        kind, why = "nix", "from flake.nix"
    elif (folder / "Dockerfile").is_file():
        kind, why = "docker", "from Dockerfile"
    lines = ["[env]", f"{f'type = {json.dumps(kind)}':<36} # uv, system, docker or nix; {why}"]
    extras = _extras(folder)
    if kind == "uv":
        lines.append(f"# extra = {_list(extras or ['train'])}")
        lines.append('# cache_dir = "/workspace/.uv-cache"  # on the disk that has room')
    if kind == "docker":
        lines.append('dockerfile = "Dockerfile"')
    lines.append('# secrets = ["UV_INDEX_MINE_PASSWORD"]  # names of variables here, never values')
    return "\n".join([*lines, ""])


def _extras(folder: Path) -> list[str]:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text()).get("project", {})
    except (OSError, ValueError):
        return []
    extras = project.get("optional-dependencies", {}) if isinstance(project, dict) else {}
    return sorted(extras) if isinstance(extras, dict) else []


def _launch(folder: Path) -> str:
    script = next((name for name in SCRIPTS if (folder / name).is_file()), None)
    first = f"script = {json.dumps(script)}" if script else '# script = "train.py"'
    return f"[launch]\n{first}\n{_LAUNCH}"


_LAUNCH = """\
# args = ["--lr", "3e-4"]
# launcher = "torchrun"              # "ranks": the script is a command, once a rank; "node": once a node
# nproc_per_node = 8                 # without, one rank a GPU
# restarts = 3                       # the whole gang again, while somebody watches
# spares = ["@spare"]                # made ready too; one takes the place of a node that fails
# env = { NCCL_DEBUG = "WARN" }
# secrets = ["WANDB_API_KEY"]        # names of variables here, never values
"""
_COLLECT = """\
[collect]
# source = "results"                 # in the project's folder on the nodes
# target = "./results"
"""


def _list(texts: Sequence[str]) -> str:
    return json.dumps(list(texts))
