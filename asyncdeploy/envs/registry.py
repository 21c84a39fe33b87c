"""Environments are known to JSON by the names of their classes.

All are registered where they are written. Ours are imported when somebody asks for their names: a person's own must be
imported by then.
"""

from __future__ import annotations

import importlib
from typing import Any, TypeVar

from asyncdeploy.envs.base import Env
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.serialize import MAX_DEPTH, in_words, is_deeper

E = TypeVar("E")

_OURS = {
    "DockerEnv": "asyncdeploy.envs.docker",
    "NixEnv": "asyncdeploy.envs.nix",
    "SystemEnv": "asyncdeploy.envs.system",
    "UvEnv": "asyncdeploy.envs.uv",
}
_classes: dict[str, type[Any]] = {}


@checked
def register_env(cls: type[E]) -> type[E]:
    """Make an Env class known to JSON by its name; may stand over the class as a decorator.

    Args:
        cls: an Env with a classmethod ``from_dict`` that takes what its ``to_dict`` returned.

    Raises:
        ValueError: it has no ``from_dict``, or another class has this name.
    """
    if not hasattr(cls, "from_dict"):
        raise ValueError(f"an environment class with a from_dict was expected, got {cls.__name__}")
    if cls.__name__ in _OURS and cls.__module__ != _OURS[cls.__name__]:
        importlib.import_module(_OURS[cls.__name__])
    if _classes.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(f"an environment class named {cls.__name__!r} is known already")
    return cls


def env_from_dict(data: Any) -> Env:
    """Build the environment that ``to_dict`` of any known Env class described.

    Raises:
        ValueError: no known class is named under "env", or its fields do not fit.
    """
    if is_deeper(data, MAX_DEPTH):
        raise ValueError(f"an environment of at most {MAX_DEPTH} objects and lists inside each other was expected")
    name = data.get("env") if isinstance(data, dict) else None
    if isinstance(name, str) and name in _OURS:
        importlib.import_module(_OURS[name])
    if not isinstance(name, str) or name not in _classes:
        known = ", ".join(sorted({*_OURS, *_classes}))
        raise ValueError(f"an environment was expected ({known}), got {in_words(name)}")
    env: Env = _classes[name].from_dict(data)
    return env
