"""Host patterns of OpenSSH, "*" and "?", matched in time that grows with the length of the name and no faster.

A regular expression for "*a*a*a*b" tries every way of parting a name; here each piece between two stars is looked for
once, from where the one before it ended, for the leftmost place leaves most room for those behind.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 1022
"""Characters of one pattern; OpenSSH lets a line with a longer one match nobody."""


def split_patterns(hosts: str) -> list[str]:
    """Return the patterns of a list with commas, in lower case.

    Raises:
        ValueError: one is too long.
    """
    patterns = hosts.lower().split(",")
    if max(map(len, patterns)) > LONGEST:
        raise ValueError(f"hosts of at most {LONGEST} characters were expected")
    return patterns


def match_patterns(patterns: Iterable[str], name: str) -> bool:
    """Return whether a list means a name, all in lower case; a negated pattern wins wherever it stands."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if match_pattern(pattern[1:], name):
                return False
        elif not found:
            found = match_pattern(pattern, name)
    return found


def match_pattern(pattern: str, name: str) -> bool:
    """Return whether one pattern means a name."""
    first, star, rest = pattern.partition("*")
    if not star:
        return len(first) == len(name) and _fits(first, name, 0)
    middle, _, last = rest.rpartition("*")
    start, end = len(first), len(name) - len(last)
    if end < start or not _fits(first, name, 0) or not _fits(last, name, end):
        return False
    for piece in middle.split("*"):
        found = _find(piece, name, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True


def is_pattern(text: str) -> bool:
    """Return whether a text may mean hosts that it does not name."""
    return "*" in text or "?" in text or "!" in text


def _fits(piece: str, name: str, at: int) -> bool:
    if "?" not in piece:
        return name.startswith(piece, at)
    return all(want in ("?", letter) for want, letter in zip(piece, name[at:], strict=False))


def _find(piece: str, name: str, start: int, end: int) -> int:
    """Return where a piece begins that ends before ``end``; -1 if nowhere."""
    if len(piece) > end - start:
        return -1
    if "?" not in piece:
        return name.find(piece, start, end)
    # Bit n of `begun`: the last n + 1 letters are the piece's first n + 1. So one step a letter, not one a pair.
    free = sum(1 << number for number, want in enumerate(piece) if want == "?")
    wants: dict[str, int] = {}
    for number, want in enumerate(piece):
        wants[want] = wants.get(want, free) | 1 << number
    begun, whole = 0, 1 << (len(piece) - 1)
    for index in range(start, end):
        begun = (begun << 1 | 1) & wants.get(name[index], free)
        if begun & whole:
            return index - len(piece) + 1
    return -1
