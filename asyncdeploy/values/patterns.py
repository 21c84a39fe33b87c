"""Gitignore-style patterns, as git reads them: include, exclude, .asyncdeployignore; .gitignore outside of git."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

_CLASSES = re.compile(r"\[:([a-z]+):\]")
_POSIX = {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s"}


@attrs.frozen
class _Rule:
    pattern: re.Pattern[str]
    negated: bool
    folders_only: bool


def _compile(lines: Iterable[str]) -> tuple[_Rule, ...]:
    rules = (_read(line) for line in lines)
    return tuple(rule for rule in rules if rule)


@attrs.frozen
class Patterns:
    """Patterns below one folder; the last one that matches decides, and what lies below an ignored folder is ignored.

    Args:
        lines: one pattern each; empty lines and comments are skipped.
    """

    rules: tuple[_Rule, ...] = attrs.field(converter=_compile)

    def decide(self, path: str, *, folder: bool = False) -> bool | None:
        """Return whether a path itself is matched, None where no pattern says anything; its parents are not asked."""
        for rule in reversed(self.rules):
            if (folder or not rule.folders_only) and rule.pattern.fullmatch(path):
                return not rule.negated
        return None

    def match(self, path: str, *, folder: bool = False) -> bool:
        """Return whether a path, or a folder above it, is matched."""
        if not self.rules:
            return False
        at = path.find("/")
        while at != -1:
            if self.decide(path[:at], folder=True):
                return True
            at = path.find("/", at + 1)
        return bool(self.decide(path, folder=folder))

    def __bool__(self) -> bool:
        return bool(self.rules)


def may_match(instance: object, field: attrs.Attribute[tuple[str, ...]], lines: tuple[str, ...]) -> None:
    """Refuse patterns that can match nothing, as git's too: what was meant would travel, or stay behind, in silence.

    Raises:
        ValueError: one begins with "./", leads out by "..", or holds the workspace's own path.
    """
    folder = getattr(instance, "path", None)
    for line in lines:
        pattern = line.removeprefix("!")
        is_whole = folder is not None and pattern.startswith(f"{folder}/")
        if is_whole or not {".", ".."}.isdisjoint(pattern.split("/")):
            what = f"{type(instance).__name__} {field.name}: a name counted from the folder itself was expected"
            raise ValueError(f"{what}, as 'data' or '/data'; got {line!r}, which matches nothing")


def _read(line: str) -> _Rule | None:
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[1:] if negated else line
    folders_only = line.endswith("/")
    line = line[:-1] if folders_only else line
    anchored = "/" in line
    line = line.removeprefix("/")
    if not line:
        return None
    expression = _translate(line)
    if expression is None:
        return None
    try:
        return _Rule(re.compile(expression if anchored else f"(?:.*/)?{expression}", re.DOTALL), negated, folders_only)
    except re.error:
        return None  # git too lets a malformed range match nothing


def _translate(glob: str) -> str | None:
    """Return the glob as a regular expression; None if it can match nothing."""
    out, at = "", 0
    while at < len(glob):
        char = glob[at]
        start = at == 0 or glob[at - 1] == "/"
        if start and glob.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif start and glob[at:] == "**":
            out, at = out + ".+", at + 2
        elif char == "*":
            while glob.startswith("*", at):
                at += 1
            out += "[^/]*"
        elif char == "?":
            out, at = out + "[^/]", at + 1
        elif char == "[":
            end = _class_end(glob, at)
            if end < 0:
                return None
            out, at = out + _class(glob[at + 1 : end]), end + 1
        elif char == "\\":
            if at + 1 == len(glob):
                return None
            out, at = out + re.escape(glob[at + 1]), at + 2
        else:
            out, at = out + re.escape(char), at + 1
    return out


def _class_end(glob: str, start: int) -> int:
    at = start + 1
    if glob.startswith(("!", "^"), at):
        at += 1
    if glob.startswith("]", at):
        at += 1
    while at < len(glob) and glob[at] != "]":
        named = _CLASSES.match(glob, at)
        at = named.end() if named else at + (2 if glob[at] == "\\" else 1)
    return at if at < len(glob) else -1


def _class(inside: str) -> str:
    negated = inside[:1] in ("!", "^")
    body = inside[1:] if negated else inside
    out, at = "", 0
    while at < len(body):
        if named := _CLASSES.match(body, at):
            out, at = out + _POSIX.get(named[1], ""), named.end()
        elif body[at] == "\\" and at + 1 < len(body):
            out, at = out + re.escape(body[at + 1]), at + 2
        elif body[at] == "-" and 0 < at < len(body) - 1:
            out, at = out + "-", at + 1
        else:
            out, at = out + re.escape(body[at]), at + 1
    return f"(?!/)[{'^' if negated else ''}{out}]"
