"""Frozen values as plain data (what JSON can hold) and back, by their fields' types.

A class that travels is a PlainData, by one line, so that none can forget a field. Nothing here imports a name that came
in the data: the wanted type is always given by the caller, and unknown keys are refused.
"""

from __future__ import annotations

import base64
import functools
import json
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from asyncdeploy.values.words import clean, one_line

T = TypeVar("T")

Pairs = tuple[tuple[str, str], ...]
"""A mapping of text to text, kept as sorted pairs so that its owner can be hashed."""

MAX_DEPTH = 32
"""Deeper data than any class of ours makes: a bound on recursion for text that came from outside."""
MAX_WHOLE = 2**63 - 1
"""Sizes, pids and counts of any machine stay below it."""
MAX_ERROR = 1000
"""Characters of an error: some places inside each other, and what came."""
SHOWN = 80
"""Characters of a wrong value in an error."""

_MAX_FLOAT = 1e300  # Python's JSON knows infinity and "no number", too; none of ours is one
_NOT_PLAIN = "asyncdeploy: no part of the plain form"
_READ_BY = "asyncdeploy: read by"


class PlainData:
    """What a frozen attrs class inherits from to have a plain form."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: dicts, lists, text, numbers, booleans and None; fields at their defaults are left out."""
        return fields_to_plain(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build one from ``to_dict``'s data, after a way through JSON.

        Raises:
            ValueError: it is not that; the class, the field, what was expected and what came are named.
        """
        if is_deeper(data, MAX_DEPTH):
            raise ValueError(f"{cls.__name__}: at most {MAX_DEPTH} objects and lists inside each other were expected")
        return cast(Self, _fields_from_plain(cls, data))


def not_plain() -> dict[str, Any]:
    """Return the metadata of a field that belongs to this machine or process, and is no part of the plain form."""
    return {_NOT_PLAIN: True}


def read_by(function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the metadata of a field whose type does not say how it is read: by that function."""
    return {_READ_BY: function}


def to_pairs(value: Mapping[str, str] | Pairs) -> Pairs:
    """Return a mapping (or its pairs) as sorted pairs of text."""
    items = value.items() if isinstance(value, Mapping) else value
    return tuple(sorted((str(key), str(item)) for key, item in items))


def to_plain(value: Any) -> Any:
    """Return ``value`` as dicts, lists, text, numbers, booleans and None.

    A class may define ``to_dict`` for a form of its own (a secret gives its name only).
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [to_plain(item) for item in value]
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if attrs.has(type(value)):
        return fields_to_plain(value)
    raise TypeError(f"no plain form is known for {type(value).__name__}")


def fields_to_plain(value: Any) -> dict[str, Any]:
    """Return an attrs value's fields as plain data, those at their defaults left out."""
    result = {}
    for field in _plain_fields(type(value)):
        item = getattr(value, field.name)
        default = field.default
        if isinstance(default, attrs.Factory) or item != default:  # type: ignore[arg-type]
            result[field.name] = to_plain(item)
    return result


def from_plain(kind: type[T], data: Any) -> T:
    """Build a ``kind`` from plain data.

    Args:
        kind: a class, or a type such as ``tuple[Node, ...] | None``.
        data: what ``to_plain`` returned, after a way through JSON.

    Raises:
        ValueError: the data does not fit the type.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return cast(T, _from_union(get_args(kind), data))
    if origin is tuple:
        return cast(T, _from_tuple(get_args(kind), data))
    if origin is Literal:
        if isinstance(data, str) and data in get_args(kind):
            return cast(T, data)
        raise wrong(" or ".join(map(repr, get_args(kind))), data)
    if hasattr(kind, "from_dict"):
        return cast(T, cast(Any, kind).from_dict(data))
    if attrs.has(kind):
        return cast(T, _fields_from_plain(cast(type[Any], kind), data))
    return _from_scalar(kind, data)


def wrong(expected: str, data: Any) -> ValueError:
    """Return the error that says what was expected and what came."""
    return ValueError(f"{expected} was expected, got {in_words(data)}")


def in_words(data: Any) -> str:
    """Return plain data as an error may show it."""
    if isinstance(data, dict | list | tuple):
        return "an object" if isinstance(data, dict) else f"a list of {len(data)}"
    if data is None:
        return "nothing"
    text = json.dumps(data, ensure_ascii=False) if isinstance(data, bool | int | float | str) else repr(data)
    return one_line(text, SHOWN)


def is_deeper(data: Any, most: int) -> bool:
    """Return whether more lists and objects than that lie inside each other; a loop, for whose depth we ask."""
    level = [data]
    for _ in range(most):
        level = [child for each in level for child in _children(each) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(data: Any) -> Iterable[Any]:
    if isinstance(data, dict):
        return data.values()
    return data if isinstance(data, list) else ()


def _fields_from_plain(kind: type[Any], data: Any) -> Any:
    """Build an attrs class from a dict of its fields; unknown or missing keys are a ValueError."""
    name = kind.__name__
    if not isinstance(data, dict):
        raise ValueError(f"{name}: an object was expected, got {in_words(data)}")
    fields = {field.name: field for field in _plain_fields(kind)}
    if unknown := sorted(str(key) for key in set(data) - set(fields)):
        raise ValueError(f"{name} has no field {one_line(unknown[0], SHOWN)!r}; {', '.join(fields)} were expected")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in data:
            values[str(field.alias)] = _read(kind, field, data[key])
        elif field.default is attrs.NOTHING:
            raise ValueError(f"{name} {key}: it was expected, and is missing")
    try:
        if "__attrs_init__" not in vars(kind):
            return kind(**values)
        made = object.__new__(kind)  # a class whose constructor takes other words than its fields
        made.__attrs_init__(**values)
        return made
    except ValueError as error:
        raise _named(name, error) from None


def _read(kind: type[Any], field: attrs.Attribute[Any], data: Any) -> Any:
    try:
        own = field.metadata.get(_READ_BY)
        return own(data) if own is not None else from_plain(_hints(cast(Any, kind))[field.name], data)
    except ValueError as error:
        raise _named(f"{kind.__name__} {field.name}", error) from None


def _named(place: str, error: ValueError) -> ValueError:
    """Return an error that says whose it is; its text may repeat what came, which is somebody else's word."""
    text = str(error)
    return ValueError(clean(text if text.startswith(place) else f"{place}: {text}", MAX_ERROR))


def _plain_fields(kind: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    return tuple(field for field in attrs.fields(kind) if field.init and _NOT_PLAIN not in field.metadata)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _from_union(members: tuple[Any, ...], data: Any) -> Any:
    if data is None and type(None) in members:
        return None
    reasons = []
    for member in members:
        if member is not type(None):
            try:
                return from_plain(member, data)
            except ValueError as error:
                reasons.append(str(error))
    raise ValueError("; or ".join(reasons))


def _from_tuple(members: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise wrong("a list", data)
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(from_plain(members[0], item) for item in data)
    if len(members) != len(data):
        raise wrong(f"a list of {len(members)}", data)
    return tuple(from_plain(member, item) for member, item in zip(members, data, strict=True))


_SCALARS: dict[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    bytes: 'an object with "base64"',
}


def _from_scalar(kind: type[T], data: Any) -> T:
    if kind is bytes and isinstance(data, dict) and set(data) == {"base64"} and isinstance(data["base64"], str):
        return cast(T, base64.b64decode(data["base64"], validate=True))
    if kind is Path and isinstance(data, str):
        return cast(T, Path(data))
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool) and abs(data) <= _MAX_FLOAT:
        return cast(T, float(data))
    if kind is int and type(data) is int and abs(data) <= MAX_WHOLE:
        return cast(T, data)
    if kind in (str, bool) and type(data) is kind:
        return data
    raise wrong(_SCALARS.get(kind, f"a {getattr(kind, '__name__', kind)}"), data)
