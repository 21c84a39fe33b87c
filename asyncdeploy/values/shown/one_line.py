"""A value as one line of code: what differs from the default, and no more than a line holds."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import attrs

MOST = 119
"""Characters: a line of a terminal that is wide enough for code."""
WORD = 40
"""Characters of one field's value."""
_CUT = "..."
_NAMES = ("id", "name", "path", "node")  # by which a thing is known, the first that it has


class OneLine:
    """An attrs value whose repr is one line of what differs from the default; fields with repr=False never show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return one_line_repr(self)


def one_line_repr(value: Any) -> str:
    """Return the repr of an attrs value in one line, fields at their defaults left out, long ones cut."""
    fields = [
        f"{field.name}={short(getattr(value, field.name))}"
        for field in attrs.fields(type(value))
        if field.repr and not _is_default(value, field)
    ]
    return in_one_line(type(value).__name__, fields)


def in_one_line(name: str, fields: list[str]) -> str:
    """Return the repr of a value whose fields in words these are; what a line does not hold is left out."""
    while len(name) + 2 + len(text := ", ".join(fields)) > MOST:
        fields = [*fields[:-2], _CUT] if fields[-1] == _CUT else [*fields[:-1], _CUT]
    return f"{name}({text})"


def _is_default(value: Any, field: attrs.Attribute[Any]) -> bool:
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return not getattr(value, field.name)
    return bool(getattr(value, field.name) == field.default)


def short(value: Any) -> str:
    """Return a field's value in few characters: of a thing with a name or id, that; of many, how many there are."""
    if attrs.has(type(value)):
        known = next((word for field in _NAMES if isinstance(word := getattr(value, field, None), str)), None)
        text = f"{type(value).__name__}(...)" if known is None else repr(known)
    elif isinstance(value, tuple):
        parts = [short(each) for each in value[: WORD // 2]]  # more do not fit
        text = f"({', '.join(parts)}{',' * (len(parts) == 1)})"
        text = text if len(text) <= WORD else f"<{len(value)}>"
    elif isinstance(value, PurePath):
        text = repr(str(value))
    elif isinstance(value, float):
        text = f"{value:.12g}"
    else:
        text = repr(value)
    return text if len(text) <= WORD else text[: WORD - len(_CUT)] + _CUT
