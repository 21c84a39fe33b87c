"""Which nodes are meant: arguments, a hostfile, groups, rentals, variables, a Slurm allocation, the settings file; then
which of them.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import asyncdeploy as ad
from asyncdeploy.cli.settings.file import File
from asyncdeploy.cli.settings.options import Reach
from asyncdeploy.cli.settings.rented import as_rented, rented_nodes
from asyncdeploy.cli.settings.usage import UsageError

NO_NODES = (
    "no nodes: name them (asyncdeploy VERB root@gpu[01-08]), or give --hostfile, ASYNCDEPLOY_NODES, "
    "or `nodes` in asyncdeploy.toml (asyncdeploy init writes one)"
)


def choose_nodes(file: File, reach: Reach, words: Sequence[str] = ()) -> tuple[tuple[ad.Node, ...], str]:
    """Return the nodes that are meant, and what names them.

    Args:
        file: the settings file.
        reach: the flags.
        words: the arguments that are nodes.

    Raises:
        UsageError: there are none, or they cannot be read.
    """
    found, source = _named(file, reach, words)
    limit, exclude = reach.limit or file.limit, reach.exclude or file.exclude
    kept = _limited(found, limit)
    if exclude:
        gone = {node for item in exclude for node in _matching(found, item, "--exclude")}
        kept = tuple(node for node in kept if node not in gone)
    if not kept:
        raise UsageError(f"--limit and --exclude leave none of {len(found)} nodes from {source}")
    return kept, source


def has_nodes(file: File, reach: Reach, words: Sequence[str] = ()) -> bool:
    """Return whether anything names nodes."""
    variables = ("ASYNCDEPLOY_NODES", "SLURM_JOB_NODELIST")
    return bool(words or reach.nodes or reach.hostfile or file.nodes or file.hostfile) or any(
        os.environ.get(name) for name in variables
    )


def _named(file: File, reach: Reach, words: Sequence[str]) -> tuple[tuple[ad.Node, ...], str]:
    said = [*words, *reach.nodes]
    if said or reach.hostfile:
        hosts = read_hosts(reach.hostfile) if reach.hostfile else ()
        return _parsed([*_without_groups(file, said), *hosts], file, reach), "the command line"
    for name in ("ASYNCDEPLOY_NODES", "SLURM_JOB_NODELIST"):
        if text := os.environ.get(name, "").strip():
            return _parsed(_without_groups(file, _lines(text)), file, reach), name
    if file.nodes or file.hostfile:
        hosts = read_hosts(file.hostfile) if file.hostfile else ()
        return _parsed([*_without_groups(file, file.nodes), *hosts], file, reach), str(file.path)
    raise UsageError(NO_NODES)


def _lines(text: str) -> list[str]:
    """Return the nodes of a variable, a pasted ``ssh ...`` line or a list each."""
    return [line for line in text.splitlines() if line.strip()]


def parsed_nodes(file: File, reach: Reach, words: Sequence[str]) -> tuple[ad.Node, ...]:
    """Return nodes as people write them, groups among them, with the flags' way in."""
    return _parsed(_without_groups(file, words), file, reach)


def _parsed(found: Iterable[str | ad.Node], file: File, reach: Reach) -> tuple[ad.Node, ...]:
    try:
        nodes = ad.parse_nodes(list(found), key_path=reach.key or file.key, jump=reach.jump or file.jump)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return as_rented(nodes)


def _without_groups(file: File, words: Iterable[str]) -> list[str | ad.Node]:
    found: list[str | ad.Node] = []
    for word in words:
        for part in re.split(r"(?<!\S)(@[^\s,]+)[\s,]*", word):
            if not part.startswith("@"):
                found += [part] * bool(part.strip(", \t"))
            elif part[1:] in file.groups:
                found += file.groups[part[1:]]
            else:
                found += rented_nodes(part[1:], file)
    return found


def read_hosts(path: str) -> tuple[ad.Node, ...]:
    """Return the nodes of a hostfile; "-" is stdin.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if path != "-":
            return ad.read_hostfile(path)
        with tempfile.TemporaryDirectory(prefix="asyncdeploy-") as folder:  # the library reads files
            copy = Path(folder) / "stdin"
            copy.write_bytes(sys.stdin.buffer.read())
            return ad.read_hostfile(copy)
    except OSError as error:
        raise UsageError(f"--hostfile {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _limited(nodes: tuple[ad.Node, ...], limit: Sequence[str]) -> tuple[ad.Node, ...]:
    if not limit:
        return nodes
    if len(limit) == 1 and limit[0].isdigit():
        return nodes[: int(limit[0])]
    wanted = {node for item in limit for node in _matching(nodes, item, "--limit")}
    return tuple(node for node in nodes if node in wanted)


def _matching(nodes: Sequence[ad.Node], item: str, flag: str) -> list[ad.Node]:
    """Return the nodes that an item means: names with ranges and commas, or a pattern with * and ?."""
    if re.search(r"[*?]", item):
        pattern = item.replace("[", "[[]")
        found = [node for node in nodes if any(fnmatch.fnmatchcase(name, pattern) for name in (node.name, node.host))]
        names = [item] if not found else []
    else:
        try:
            names = [node.name for node in ad.parse_nodes(item)]
        except ValueError as error:
            raise UsageError(f"{flag}: {error}") from error
        found = [node for node in nodes if node.name in names or node.host in names]
        names = [name for name in names if not any(name in (node.name, node.host) for node in nodes)]
    if names:
        raise UsageError(
            f"{flag}: no node is called {', '.join(names[:5])}; there are {ad.fold_names([n.name for n in nodes])}"
        )
    return found
