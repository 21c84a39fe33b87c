"""Frozen values as plain data (what JSON can hold) and back, by their fields' types.

One pair of functions serves every class that travels, so that no class can forget a field. Nothing here imports a
name that came in the data: the wanted type is always given by the caller, and unknown keys are refused.
"""

from __future__ import annotations

import base64
import functools
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

T = TypeVar("T")

Pairs = tuple[tuple[str, str], ...]
"""A mapping of text to text, kept as sorted pairs so that its owner can be hashed."""

MAX_DEPTH = 32
"""Deeper data than any class of ours makes: a bound on recursion for text that came from outside."""


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
    """Return an attrs value's fields as plain data, leaving out those at their plain default."""
    result = {}
    for field in attrs.fields(type(value)):
        item = getattr(value, field.name)
        default = field.default
        if not field.init or (not isinstance(default, attrs.Factory) and item == default):  # type: ignore[arg-type]
            continue
        result[field.name] = to_plain(item)
    return result


def from_plain(kind: type[T], data: Any, *, depth: int = 0) -> T:
    """Build a ``kind`` from plain data.

    Args:
        kind: a class, or a type such as ``tuple[Node, ...] | None``.
        data: what ``to_plain`` returned, after a way through JSON.
        depth: how deep in the data we are.

    Raises:
        ValueError: the data does not fit the type.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"data nested deeper than {MAX_DEPTH} levels")
    if kind is Any:
        return cast(T, data)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return cast(T, _from_union(kind, data, depth))
    if origin is tuple:
        return cast(T, _from_tuple(kind, data, depth))
    if hasattr(kind, "from_dict"):
        return cast(T, cast(Any, kind).from_dict(data))
    if attrs.has(kind):
        return cast(T, fields_from_plain(cast(type[Any], kind), data, depth=depth))
    return _from_scalar(kind, data)


def fields_from_plain(kind: type[T], data: Any, *, depth: int = 0) -> T:
    """Build an attrs class from a dict of its fields; unknown or missing keys are a ValueError."""
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__} wants an object, got {type(data).__name__}")
    hints = _hints(cast(Any, kind))
    known = {field.name: field.alias for field in attrs.fields(kind) if field.init}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(known)):
        raise ValueError(f"{kind.__name__} has no field {unknown[0]!r}")
    values = {known[name]: from_plain(hints[name], item, depth=depth + 1) for name, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _from_union(kind: Any, data: Any, depth: int) -> Any:
    members = get_args(kind)
    if data is None:
        if type(None) in members:
            return None
        raise ValueError(f"None does not fit {kind}")
    reasons = []
    for member in members:
        if member is type(None):
            continue
        try:
            return from_plain(member, data, depth=depth + 1)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError("; ".join(reasons))


def _from_tuple(kind: Any, data: Any, depth: int) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise ValueError(f"a list was expected, got {type(data).__name__}")
    members = get_args(kind)
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(from_plain(members[0], item, depth=depth + 1) for item in data)
    if len(members) != len(data):
        raise ValueError(f"{len(members)} items were expected, got {len(data)}")
    return tuple(from_plain(member, item, depth=depth + 1) for member, item in zip(members, data, strict=True))


def _from_scalar(kind: type[T], data: Any) -> T:
    if kind is bytes:
        if isinstance(data, dict) and set(data) == {"base64"} and isinstance(data["base64"], str):
            return cast(T, base64.b64decode(data["base64"], validate=True))
        raise ValueError("bytes want an object with base64")
    if kind is Path and isinstance(data, str):
        return cast(T, Path(data))
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return cast(T, float(data))
    if get_origin(kind) is not None:  # Literal and the like: the class's own validator looks at the value
        return cast(T, data)
    if isinstance(data, kind) and not (isinstance(data, bool) and kind is not bool):
        return data
    raise ValueError(f"{getattr(kind, '__name__', kind)} was expected, got {type(data).__name__}")
