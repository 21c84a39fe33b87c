"""Public names say where people import them from: in tracebacks, reprs, pickles and documentation."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from types import FunctionType


def claim_names(package: str, names: Iterable[str]) -> None:
    """Make a package the module of what it hands on.

    Args:
        package: its name, already imported.
        names: its attributes; what is neither a class nor a function stays as it is.
    """
    namespace = vars(sys.modules[package])
    for name in names:
        thing = namespace[name]
        if isinstance(thing, type):
            _resolve_fields(thing)
        if isinstance(thing, type | FunctionType):
            thing.__module__ = package


def _resolve_fields(cls: type) -> None:
    """Turn a class's annotations into types while its own module is known: typing looks them up by ``__module__``."""
    if annotations := inspect.get_annotations(cls):
        known = vars(sys.modules[cls.__module__])
        cls.__annotations__ = {
            name: eval(text, known, dict(vars(cls))) if isinstance(text, str) else text  # noqa: S307 - our own source
            for name, text in annotations.items()
        }
