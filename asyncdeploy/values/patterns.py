"""Gitignore-style patterns, as git reads them: include, exclude, .asyncdeployignore; .gitignore outside of git.

git compares bytes ("?" is one byte of a letter that takes two), and so do we. A pattern is matched in time that grows
with the path's length times its own: between two stars the leftmost place is taken and kept ("(?>...)"), as it leaves
most room for what follows; trying all of them again for "*a*a*a*b" would take years. In memory a pattern takes up
to 70 times its length, as a compiled expression.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator

import attrs

_SPECIAL = "*?[\\"
_STAR, _SLASH, _FOLDERS, _REST = "*", "/", "**/", "**"
_MEMBERS: dict[str, Callable[[str], bool]] = {
    "alnum": str.isalnum,
    "alpha": str.isalpha,
    "blank": " \t".__contains__,
    "cntrl": lambda letter: not " " <= letter <= "~",
    "digit": str.isdigit,
    "graph": lambda letter: "!" <= letter <= "~",
    "lower": str.islower,
    "print": lambda letter: " " <= letter <= "~",
    "punct": string.punctuation.__contains__,
    "space": string.whitespace.__contains__,
    "upper": str.isupper,
    "xdigit": string.hexdigits.__contains__,
}
"""Of ASCII, as git has them in every locale."""


@attrs.frozen
class _Rule:
    pattern: re.Pattern[str]
    negated: bool
    folders_only: bool
    by_name: bool


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
        return self._decide(_as_bytes(path), folder=folder)

    def match(self, path: str, *, folder: bool = False) -> bool:
        """Return whether a path, or a folder above it, is matched."""
        if not self.rules:
            return False
        path = _as_bytes(path)
        at = path.find("/")
        while at != -1:
            if self._decide(path[:at], folder=True):
                return True
            at = path.find("/", at + 1)
        return bool(self._decide(path, folder=folder))

    def _decide(self, path: str, *, folder: bool) -> bool | None:
        name = path[path.rfind("/") + 1 :]
        for rule in reversed(self.rules):
            if (folder or not rule.folders_only) and rule.pattern.fullmatch(name if rule.by_name else path):
                return not rule.negated
        return None

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


def _as_bytes(text: str) -> str:
    """Return a text as its bytes, a letter each."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


def _read(line: str) -> _Rule | None:
    line = _trim(_as_bytes(line.removesuffix("\n").removesuffix("\r")))
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[1:] if negated else line
    folders_only = line.endswith("/")
    line = line[:-1] if folders_only else line
    by_name = "/" not in line
    line = line.removeprefix("/")
    if not line:
        return None
    try:
        expression = _translate(line, by_name=by_name)
    except _MatchesNothing:
        return None
    return _Rule(re.compile(expression, re.DOTALL), negated, folders_only, by_name)


def _trim(line: str) -> str:
    """Return a line without the spaces at its end, but for one behind a backslash that is not escaped itself."""
    at, end = 0, 0
    while at < len(line):
        if line[at] == "\\":
            if at + 1 == len(line):
                return line
            at += 1
            end = at + 1
        elif line[at] != " ":
            end = at + 1
        at += 1
    return line[:end]


class _MatchesNothing(Exception):
    """A class that is not closed or of no known kind, a backslash with nothing behind it: git matches nothing by it."""


def _translate(glob: str, *, by_name: bool) -> str:
    """Return the glob as a regular expression."""
    # What stands before the first special letter git compares first, and goes on behind it as if there the glob began.
    start = 0 if by_name else next((at for at, letter in enumerate(glob) if letter in _SPECIAL), 0)
    groups, group, pieces = [], "", [""]  # between two "**/"; the present one's segments; the present segment's pieces
    rest = ""
    for token in _tokens(glob, start):
        if token == _STAR:
            pieces.append("")
        elif token == _SLASH:
            group, pieces = group + _segment(pieces, "/"), [""]
        elif token == _FOLDERS:
            groups.append(group + _segment(pieces, ""))
            group, pieces = "", [""]
        elif token == _REST:
            rest = ".*"
        else:
            pieces[-1] += token
    groups.append(group + _segment(pieces, "" if rest else r"\Z"))
    first, *middle = groups if len(groups) > 1 else (groups[0],)
    if not middle:
        return first + rest
    *middle, last = middle
    between = "".join(f"(?>(?:[^/]*/)*?{each})" for each in middle if each)
    return f"{first}{between}(?>(?:[^/]*/)*?{last}){rest}" if rest else f"{first}{between}(?:[^/]*/)*{last}"


def _segment(pieces: list[str], end: str) -> str:
    """Return what matches one name: pieces with a star between each two, of which only the last is tied to its end."""
    first, *others = pieces
    if not others:
        return first + end
    *middle, last = others
    return f"(?>{first}{''.join(f'(?>[^/]*?{each})' for each in middle if each)}[^/]*{last}{end})"


def _tokens(glob: str, start: int) -> Iterator[str]:
    """Yield the glob's parts: one of the four above, or an expression for one letter."""
    at = 0
    while at < len(glob):
        letter = glob[at]
        if letter == "*":
            end = at + len(glob[at:]) - len(glob[at:].lstrip("*"))
            is_free = end - at > 1 and (at in (0, start) or glob[at - 1] == "/")
            escaped = is_free and glob.startswith("\\/", end)
            if is_free and end == len(glob):
                yield _REST
            elif escaped:
                yield from (_STAR, _SLASH, _FOLDERS)
            else:
                yield _FOLDERS if is_free and glob[end] == "/" else _STAR
            at = end + (2 if escaped else is_free and glob.startswith("/", end))
        elif letter == "[":
            members, at = _class(glob, at)
            yield members
        elif letter == "?":
            yield "[^/]"
            at += 1
        else:
            at += letter == "\\"
            if at == len(glob):
                raise _MatchesNothing
            yield _SLASH if glob[at] == "/" else re.escape(glob[at])
            at += 1


def _class(glob: str, start: int) -> tuple[str, int]:
    """Return what matches a class that begins there, and where it ends."""
    at = start + 1
    negated = glob.startswith(("!", "^"), at)
    at += negated
    found: set[str] = set()
    before = ""  # the letter that a range may begin with
    first = True
    while first or not glob.startswith("]", at):
        first = False
        letter, at = _letter(glob, at)
        colon = glob.find("]", at + 1) if letter == "[" and glob.startswith(":", at) else -1
        if letter == "[" and glob.startswith(":", at) and colon < 0:
            raise _MatchesNothing
        if colon > at + 1 and glob[colon - 1] == ":":
            if (members := _MEMBERS.get(glob[at + 1 : colon - 1])) is None:
                raise _MatchesNothing
            found |= set(filter(members, map(chr, range(128))))
            before, at = "", colon + 1
        elif letter == "-" and glob[at - 1] == "-" and before and at < len(glob) and glob[at] != "]":
            last, at = _letter(glob, at)
            found |= set(map(chr, range(ord(before), ord(last) + 1)))
            before = ""
        else:
            found.add(letter)
            before = letter
    found.discard("/")
    members_of = "".join(map(re.escape, sorted(found)))
    if negated:
        return f"[^/{members_of}]", at + 1
    return f"[{members_of}]" if found else "(?!)", at + 1


def _letter(glob: str, at: int) -> tuple[str, int]:
    """Return the letter of a class that stands there, escaped or not, and where the next one does."""
    at += glob.startswith("\\", at)
    if at >= len(glob):
        raise _MatchesNothing
    return glob[at], at + 1
