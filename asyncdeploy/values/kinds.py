"""Kinds of things: whether a value is what an annotation says, and both in words for people."""

from __future__ import annotations

import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from asyncdeploy.values.words import one_line

MAX_SHOWN = 120
"""Characters of a wrong value that an error repeats."""

_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    bytes: "bytes",
    type(None): "None",
    typing.TextIO: "an open file",
}
_NAMES = {
    "Env": "an environment such as UvEnv()",
    "Launcher": 'a launcher such as Torchrun("train.py")',
    "Remote": "a node's Remote",
}
_INSTEAD = {
    "CollectLimits": "CollectLimits(...) makes them",
    "Deployment": "deploy_all(...).unwrap() gives them",
    "Env": "choose UvEnv(), SystemEnv(), DockerEnv(...) or NixEnv(...)",
    "HostKeys": "choose HostKeys.strict(), HostKeys.accept_new() or HostKeys.pinned({...})",
    "Job": "find_job(remote, id) gives it",
    "Launch": "find_launch(nodes, id) gives it",
    "Launcher": 'Torchrun runs a script, Ranks a command: Ranks("python train.py")',
    "Limits": "Limits(...) makes them",
    "Node": "Node.parse reads one, parse_nodes several",
    "Pool": "`async with Pool() as pool` makes one",
    "Remote": "pool.at(node) gives it",
    "Restart": "Restart(times=3) makes it",
    "Site": "push_all(...).unwrap() gives them",
}
"""Which call gives what was expected, by the name of its class."""


def fits(value: Any, wanted: Any) -> bool:
    """Return whether a value is of the kind that an annotation says; a generator is not used up by looking into it."""
    if wanted in (Any, object) or isinstance(wanted, TypeVar):
        return not inspect.iscoroutine(value)
    if wanted is None:
        return value is None
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) for each in inner)  # which of the words is looked at apart
    if origin is type:
        return inspect.isclass(value)
    if origin is Callable:
        return callable(value) and not inspect.isclass(value)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return _is_mapping(value, *inner)
    if inspect.isclass(origin) and issubclass(origin, Iterable):
        return _are_several(value, origin, inner)
    return _is_one(value, origin or wanted)


def decided_by_class(wanted: Any) -> bool:
    """Return whether a value's class alone says that it fits: not of numbers, words to choose from, lists."""
    inner = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    plain = (each for each in inner if inspect.isclass(each) and get_origin(each) is None)
    return not set(inner) - set(plain) and not set(inner) & {int, float, type}


def _is_mapping(value: Any, key: Any, item: Any) -> bool:
    def is_item(each: Any) -> bool:
        # {"PORT": 8080} has always been taken for text.
        return fits(each, item) or (isinstance(each, int | float) and not isinstance(each, bool) and fits("", item))

    return isinstance(value, Mapping) and all(fits(name, key) and is_item(each) for name, each in value.items())


def _are_several(value: Any, origin: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        return False
    if isinstance(value, Mapping):  # its keys, where what there are is all that is asked for
        return not issubclass(origin, Sequence | tuple) and all(fits(each, inner[0]) for each in value)
    if not isinstance(value, Collection):
        return not issubclass(origin, Sequence)
    is_row = origin is tuple and inner[-1] is not Ellipsis
    return is_row or all(fits(each, inner[0]) for each in value)


def _is_one(value: Any, wanted: Any) -> bool:
    if wanted is bool:
        return isinstance(value, bool)
    if wanted in (int, float):
        kind = numbers.Integral if wanted is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if wanted is typing.TextIO:
        return hasattr(value, "write")
    if not inspect.isclass(wanted):
        return True
    if getattr(wanted, "_is_protocol", False):
        members = {*vars(wanted), *inspect.get_annotations(wanted)}
        return not inspect.isclass(value) and all(hasattr(value, each) for each in members if not each.startswith("_"))
    return isinstance(value, os.PathLike if issubclass(wanted, os.PathLike) else wanted)


def choices(wanted: Any) -> tuple[Any, ...]:
    """Return the words among which an annotation lets choose, () where it does not."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return inner
    if origin in (Union, types.UnionType) and str not in inner:
        return tuple(word for each in inner for word in choices(each))
    return ()


def shown(value: Any) -> str:
    """Return what came, as an error may show it."""
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if inspect.iscoroutine(value):
        return f"a coroutine ({value.__qualname__})"
    try:
        return one_line(repr(value), MAX_SHOWN)
    except Exception:  # noqa: BLE001 - somebody else's repr
        return f"a {type(value).__name__}"


def expected(wanted: Any) -> str:
    """Return what an annotation means."""
    kinds = list(dict.fromkeys(_kinds(wanted)))
    kinds.sort(key=lambda kind: kind == "None")  # said last
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _kinds(wanted: Any) -> Iterable[str]:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        for each in inner:
            yield from _kinds(each)
    elif origin is Literal:
        yield from map(repr, inner)
    elif origin is Callable:
        yield "a function"
    elif inspect.isclass(origin) and issubclass(origin, Mapping):
        yield f"a mapping of {_many(inner[0])} to {_many(inner[1])}"
    elif inspect.isclass(origin) and issubclass(origin, Iterable):
        yield f"a list of {_many(inner[0])}"
    elif inspect.isclass(wanted) and issubclass(wanted, os.PathLike):
        yield "a path"
    elif wanted in _WORDS:
        yield _WORDS[wanted]
    else:
        name = getattr(wanted, "__name__", str(wanted))
        yield _NAMES.get(name) or f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _many(wanted: Any) -> str:
    words = [each if each == "text" else f"{each.removeprefix('an ').removeprefix('a ')}s" for each in _kinds(wanted)]
    return " or ".join(dict.fromkeys(words))


def meant(value: Any, wanted: Any) -> str:
    """Return which call was probably meant, "" where nothing can be guessed."""
    classes = list(_classes(wanted))
    names = {getattr(each, "__name__", "") for each in classes}
    if inspect.iscoroutine(value):
        return "await it"
    if inspect.isclass(value) and (value in classes or names & {"Env", "Launcher"}):
        return f"call it: {value.__name__}(...)"
    first = next(iter(value), None) if isinstance(value, list | tuple) else value
    match type(first).__name__:
        case "Report":
            return "pass report.unwrap()"
        case "Outcome":
            return "pass outcome.value"
    if (
        "Command" in names
        and isinstance(value, list | tuple)
        and value
        and all(isinstance(each, str) for each in value)
    ):
        return f"Command.of({', '.join(map(repr, value))}) quotes each word"
    return "; ".join(_INSTEAD[name] for name in sorted(names & _INSTEAD.keys()))


def _classes(wanted: Any) -> Iterable[Any]:
    """Yield the classes that an annotation names."""
    inner = get_args(wanted)
    if not inner:
        yield wanted
    elif get_origin(wanted) is not Literal:
        for each in inner:
            yield from _classes(each)
