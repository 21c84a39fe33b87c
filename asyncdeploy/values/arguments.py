"""What a caller hands to us is looked at before anything is done: the one place that refuses wrong kinds of things.

``checked`` goes by a function's own annotations, so that no parameter can be forgotten. It says what was expected, what
came, and which call was probably meant: a Node where a Remote is, a class where its value is, a coroutine that nobody
awaited, a list where a shell line is.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import attrs

from asyncdeploy.values.kinds import choices, decided_by_class, expected, fits, meant, shown
from asyncdeploy.values.shown.uncaught import leave_out_ours

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


MAX_SEEN = 16
"""Classes of one argument that are remembered as fitting, which makes a check a look into a set."""


def checked(function: F) -> F:
    """Make a function refuse arguments of a wrong kind by name, before it begins.

    An error of ours that leaves the function leaves our frames behind.

    The function then raises TypeError for an argument of another kind than its annotation says, and ValueError for a
    number that is none (NaN, seconds below zero) or a word that is none of those that there are.
    """
    plan = _Plan(function, function.__qualname__)

    if inspect.iscoroutinefunction(function):  # who asks whether it is one shall still be told so

        @functools.wraps(function)
        async def _awaited(*args: Any, **kwargs: Any) -> Any:
            try:
                plan.check(args, kwargs)
                return await function(*args, **kwargs)
            except Exception as error:
                leave_out_ours(error)
                raise

        return cast(F, _awaited)

    @functools.wraps(function)
    def _called(*args: Any, **kwargs: Any) -> Any:
        try:
            plan.check(args, kwargs)
            return function(*args, **kwargs)
        except Exception as error:
            leave_out_ours(error)
            raise

    return cast(F, _called)


def checked_class(cls: C) -> C:
    """Make a class refuse what its values cannot be made of, as ``checked`` does."""
    init: Callable[..., None] = vars(cls)["__init__"]
    plan = _Plan(init, cls.__name__, lambda: _hints_of_class(cls, init, module))
    module = vars(sys.modules[cls.__module__])  # now: public classes say later that they are asyncdeploy's

    @functools.wraps(init)
    def _checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        plan.check((self, *args), kwargs)
        init(self, *args, **kwargs)

    cls.__init__ = _checked_init  # type: ignore[misc]
    return cls


def _hints_of_class(cls: type, init: Callable[..., None], module: dict[str, Any]) -> dict[str, Any]:
    """Return what the arguments of a class may be: a field's type, or what its converter takes."""
    hints: dict[str, Any] = {}
    if attrs.has(cls):
        own = typing.get_type_hints(cls)
        for field in attrs.fields(cls):
            hints[field.alias] = own[field.name] if field.converter is None else _taken_by(field.converter)
    if not attrs.has(cls) or hasattr(cls, "__attrs_init__"):  # one written by hand, which may hand **fields on
        hints |= typing.get_type_hints(init, module)
    return hints


def _taken_by(converter: Any) -> Any:
    """Return what a converter's first argument may be; a class that converts says nothing about it."""
    if not inspect.isfunction(converter):
        return Any
    first = next(iter(inspect.signature(converter).parameters))
    return typing.get_type_hints(converter).get(first, Any)


class _Plan:
    """How the arguments of one function are looked at; made at its first call, when its whole module is there."""

    def __init__(
        self, function: Callable[..., Any], name: str, hints: Callable[[], Mapping[str, Any]] | None = None
    ) -> None:
        self._function = function
        self._name = name
        self._find_hints = hints or (lambda: typing.get_type_hints(function))
        self._hints: Mapping[str, Any] | None = None
        self._parameters: list[inspect.Parameter] = []
        self._seen: dict[str, set[type]] = {}  # of those arguments whose class alone decides: the classes that fitted

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError or ValueError for the first argument that does not fit."""
        if self._hints is None:
            self._parameters = list(inspect.signature(self._function).parameters.values())
            self._hints = self._find_hints()
            self._seen = {name: set() for name, wanted in self._hints.items() if decided_by_class(wanted)}
        for name, value in (*_named(self._parameters, args), *kwargs.items()):
            seen = self._seen.get(name)
            if name not in self._hints or (seen is not None and type(value) in seen):
                continue
            check_argument(f"{self._name} {name}", value, self._hints[name])
            if seen is not None and len(seen) < MAX_SEEN:
                seen.add(type(value))


def _named(parameters: Sequence[inspect.Parameter], args: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    """Yield positional arguments with the names of their parameters; of too many Python itself tells."""
    last = None
    for place, value in enumerate(args):
        if last is None or last.kind is not last.VAR_POSITIONAL:
            if place >= len(parameters):
                return
            last = parameters[place]
        yield last.name, value


def check_argument(what: str, value: Any, wanted: Any) -> None:
    """Refuse what an argument cannot be.

    Args:
        what: the function and the parameter, "run_all at_once".
        value: the argument.
        wanted: its annotation.

    Raises:
        TypeError: it is of another kind.
        ValueError: it is none of the words or numbers that there are.
    """
    if not fits(value, wanted):
        hint = meant(value, wanted)
        message = f"{what}: {_words(what, wanted)} was expected, got {shown(value)}" + (f"; {hint}" if hint else "")
        if inspect.iscoroutine(value):
            value.close()  # it will never be awaited, of which Python would complain too
        raise TypeError(message)
    words = choices(wanted)
    if words and isinstance(value, str) and value not in words:
        raise ValueError(f"{what}: {_words(what, wanted)} was expected, got {shown(value)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(what, value)


def _words(what: str, wanted: Any) -> str:
    words = expected(wanted)
    return words.replace("a number", "a number of seconds") if what.endswith("_s") else words


def _check_number(what: str, value: float) -> None:
    if what.endswith("_s") and not 0 <= value <= sys.float_info.max:  # of NaN neither is true
        raise ValueError(f"{what}: a number of seconds from 0 was expected, got {shown(value)}")
    if not abs(value) < math.inf:  # NaN is not; a whole number of 400 digits is
        raise ValueError(f"{what}: a number was expected, got {value!r}")
    if what.endswith(" at_once") and value < 1:
        raise ValueError(f"{what}: at least 1 was expected, got {value!r}")
