"""The public face: names are loaded when they are asked for, and say where people import them from.

In tracebacks, reprs, pickles and documentation a public class is ``asyncdeploy.Pool``, wherever it is written. The
package's ``__version__`` is looked up as late.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any


def open_on_demand(package: str, rooms: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``, which import a room when one of its names is asked for.

    Args:
        package: its name.
        rooms: the names, with spaces between, that each of its modules hands on.
    """
    homes = {name: f"{package}.{room}" for room, names in rooms.items() for name in names.split()}
    closed = {f"{package}.{room}": names.split() for room, names in rooms.items()}

    def find(name: str) -> Any:
        if name == "__version__":
            setattr(sys.modules[package], name, version := _version_of(package))
            return version
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        importlib.import_module(homes[name])
        # What came with it, too: an error that a verb raises was never asked for by its name.
        for home in [home for home in tuple(closed) if _is_loaded(home)]:
            _claim_names(package, sys.modules[home], closed.pop(home, ()))
        return getattr(sys.modules[homes[name]], name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, "__version__"})

    return find, listed


def _version_of(package: str) -> str:
    """Return what the installed package's metadata say, "0+unknown" where it was never installed."""
    from importlib import metadata  # of no use to those who do not ask, and as dear as half of our import

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout on the path
        return "0+unknown"


def _is_loaded(home: str) -> bool:
    """Whether a module was imported to its end; another thread may be at it."""
    module = sys.modules.get(home)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _claim_names(package: str, room: ModuleType, names: Iterable[str]) -> None:
    """Hand a room's names on, and make the package the module of its classes and functions."""
    for name in names:
        thing = getattr(room, name)
        if isinstance(thing, type):
            _resolve_fields(thing)
        if isinstance(thing, type | FunctionType):
            thing.__module__ = package
        setattr(sys.modules[package], name, thing)


def _resolve_fields(cls: type) -> None:
    """Turn a class's annotations into types while its own module is known: typing looks them up by ``__module__``."""
    if annotations := inspect.get_annotations(cls):
        known = vars(sys.modules[cls.__module__])
        cls.__annotations__ = {
            name: eval(text, known, dict(vars(cls))) if isinstance(text, str) else text  # noqa: S307 - our own source
            for name, text in annotations.items()
        }
