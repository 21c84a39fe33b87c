"""What a project's files say to uv: which of its versions serves, and which extras and groups there are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asyncdeploy.values.not_found import nearest
from asyncdeploy.values.regex import regex

FLOOR = "0.7.0"
"""The first that knows all that we ask of it (pylock.toml is the youngest); 0.2 has no relocatable environments."""

_RULE = regex(r"\s*(===|==|!=|~=|>=|<=|>|<)?\s*v?([0-9]+(?:\.[0-9]+)*)(\.\*)?\s*\Z")


def required_version(folder: Path) -> str:
    """Return what a project, or the workspace around it, says of uv's version (">=0.8,<0.9"), "" if nothing."""
    for above in (folder, *folder.parents):
        for path, keys in ((above / "uv.toml", ()), (above / "pyproject.toml", ("tool", "uv"))):
            table = _read(path)
            for key in keys:
                table = table.get(key, {})
            if isinstance(found := table.get("required-version"), str):
                return found
    return ""


def misfit(version: str, required: str = "") -> str:
    """Return why a uv of that version does not serve, "" if it does or nobody knows its version.

    Args:
        version: "0.9.2".
        required: what the project says.
    """
    if not version:
        return ""
    if _numbers(version) < _numbers(FLOOR):
        return f"uv {version} is too old: {FLOOR} or later is needed"
    if not all(_holds(version, rule) for rule in required.split(",") if rule.strip()):
        return f"uv {version} is not what the project wants (required-version {required})"
    return ""


def _holds(version: str, rule: str) -> bool:
    found = _RULE.match(rule)
    if found is None:
        return True  # written in a way that uv may know and we do not: it will say so
    sign, text, any_ = found.groups()
    ours, wanted = _numbers(version), _numbers(text)
    begins = ours[: len(text.split("."))] == wanted[: len(text.split("."))]
    if sign == "~=":
        part = len(text.split(".")) - 1
        return ours >= wanted and ours[:part] == wanted[:part]
    equal = begins if any_ else ours == wanted
    return {
        ">=": ours >= wanted,
        "<=": ours <= wanted,
        ">": ours > wanted,
        "<": ours < wanted,
        "!=": not equal,
    }.get(sign or "==", equal)


def check_names(folder: Path, extras: Iterable[str], groups: Iterable[str]) -> None:
    """Raise ValueError for an extra or a group that a project does not have, with the one that was probably meant.

    Where that cannot be told here (no [project], extras that the build finds out) uv says it on the node.

    Args:
        folder: where the project lies on this machine.
        extras, groups: what is asked of it.
    """
    path = folder / "pyproject.toml"
    if not path.exists() and (asked := [*extras, *groups]):
        raise ValueError(f"UvEnv: {asked[0]!r} was asked for, and there is no pyproject.toml in {folder} that has it")
    said = _read(path)
    project = said.get("project")
    if not isinstance(project, dict):
        return  # of a workspace without a project of its own all members count
    if "optional-dependencies" not in project.get("dynamic", ()):
        _check(folder, "extra", extras, project.get("optional-dependencies", {}))
    above = [said, *(_read(path / "pyproject.toml") for path in folder.parents)]  # a workspace's groups serve members
    old = ("dev" for table in above if "dev-dependencies" in table.get("tool", {}).get("uv", {}))
    _check(folder, "group", groups, [*(name for table in above for name in table.get("dependency-groups", {})), *old])


def _check(folder: Path, kind: str, asked: Iterable[str], known: Iterable[str]) -> None:
    names = {_plain(name): name for name in known}
    for name in asked:
        if _plain(name) not in names:
            what = f"UvEnv {kind}{'s' if kind == 'group' else ''}: {folder / 'pyproject.toml'} has no {kind} {name!r}"
            raise ValueError(f"{what}; {nearest(name, sorted(names.values()))}")


def _plain(name: str) -> str:
    """Return a name as uv compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # not there, or not for us to complain about: uv does


def _numbers(version: str) -> tuple[int, ...]:
    found = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:4]]
    return tuple(found + [0] * (4 - len(found)))
