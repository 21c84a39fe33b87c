"""Which uv serves a project: not one that is too old for what we ask, nor one that the project does not want."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from asyncdeploy.values.regex import regex

FLOOR = "0.7.0"
"""The first that knows all that we ask of it (pylock.toml is the youngest); 0.2 has no relocatable environments."""

_RULE = regex(r"\s*(===|==|!=|~=|>=|<=|>|<)?\s*v?([0-9]+(?:\.[0-9]+)*)(\.\*)?\s*\Z")


def required_version(folder: Path) -> str:
    """Return what a project, or the workspace around it, says of uv's version (">=0.8,<0.9"), "" if nothing."""
    for above in (folder, *folder.parents):
        for path, keys in ((above / "uv.toml", ()), (above / "pyproject.toml", ("tool", "uv"))):
            try:
                table = tomllib.loads(path.read_text("utf-8"))
            except (OSError, ValueError):
                continue  # not there, or not for us to complain about: uv does
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


def _numbers(version: str) -> tuple[int, ...]:
    found = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:4]]
    return tuple(found + [0] * (4 - len(found)))
